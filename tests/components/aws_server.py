"""moto: AWS's STS, IAM and S3, with one bucket, one role and one user that may assume it.

    python aws_server.py [PORT]

prints `ready {"url","bucket","role","id","secret"}`: the user's keys, which may do nothing but assume the role, and
a role that may do everything to the bucket. From then on moto checks signatures and permissions. It keeps the
policies of sessions without applying them: that is done here, by its own evaluator.
"""

import json
import os
import sys
import threading

# What is done below, before permissions are checked.
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "6"

import boto3
from botocore.config import Config
from moto.iam.access_control import IAMPolicy, IAMRequestBase, PermissionResult
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from moto.sts.models import sts_backends

REGION = "eu-west-1"
BUCKET = "agents"


def apply_session_policies():
    check = IAMRequestBase.check_action_permitted

    def check_both(self, resource):
        check(self, resource)
        sessions = sts_backends[self.account_id]["aws"].assumed_roles
        key = getattr(self._access_key, "_access_key_id", None)
        for session in sessions:
            if session.access_key_id == key and session.policy:
                policy = IAMPolicy(session.policy)
                if policy.is_action_permitted(self._action, resource) != PermissionResult.PERMITTED:
                    self._raise_access_denied()

    IAMRequestBase.check_action_permitted = check_both


def allow(actions, resources):
    statement = {"Effect": "Allow", "Action": actions, "Resource": resources}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def prepare(url):
    setting = {
        "endpoint_url": url,
        "region_name": REGION,
        "aws_access_key_id": "root",
        "aws_secret_access_key": "root",
        "config": Config(retries={"total_max_attempts": 1}),
    }
    location = {"LocationConstraint": REGION}
    boto3.client("s3", **setting).create_bucket(Bucket=BUCKET, CreateBucketConfiguration=location)
    iam = boto3.client("iam", **setting)
    user = iam.create_user(UserName="gateway")["User"]
    trust = {"Effect": "Allow", "Principal": {"AWS": user["Arn"]}, "Action": ["sts:AssumeRole", "sts:TagSession"]}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    role = iam.create_role(RoleName="agents", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    bucket = f"arn:aws:s3:::{BUCKET}"
    iam.put_role_policy(RoleName="agents", PolicyName="bucket", PolicyDocument=allow("s3:*", [bucket, f"{bucket}/*"]))
    iam.put_user_policy(UserName="gateway", PolicyName="assume", PolicyDocument=allow("sts:AssumeRole", role))
    key = iam.create_access_key(UserName="gateway")["AccessKey"]
    return {
        "url": url,
        "bucket": BUCKET,
        "role": role,
        "id": key["AccessKeyId"],
        "secret": key["SecretAccessKey"],
    }


def main():
    apply_session_policies()
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    print("ready", json.dumps(prepare(f"http://{host}:{port}")), flush=True)
    threading.Event().wait()


main()
