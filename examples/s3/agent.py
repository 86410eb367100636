"""An agent that keeps notes in a bucket: the SDK as it is, with the task token for a session token."""

import os

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

s3 = boto3.client(
    "s3",
    endpoint_url="http://127.0.0.1:4180/files",
    region_name="us-east-1",
    aws_access_key_id="remit",
    aws_secret_access_key="unused",
    aws_session_token=os.environ["TOKEN"],
    config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
)

for key in ["drafts/hello", "shared/hello"]:
    try:
        s3.put_object(Bucket="notes", Key=key, Body=b"hello")
        print(f"{key}:", s3.get_object(Bucket="notes", Key=key)["Body"].read().decode())
    except ClientError as error:
        print(f"{key}: DENIED" if error.response["ResponseMetadata"]["HTTPStatusCode"] == 403 else error)
