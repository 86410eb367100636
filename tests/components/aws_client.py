"""Uses an S3 by the official SDK of AWS, which takes the task token for the session token.

    TOKEN=t python aws_client.py URL BUCKET put|get|list|delete KEY
    TOKEN=t python aws_client.py URL BUCKET multipart|stream|presigned KEY

prints {"done"}, what was asked for; or {"error":{"status","code"}}, with exit code 1. `CA` names the authority of a
URL over TLS.
"""

import io
import json
import os
import sys
import urllib.error
import urllib.request

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

LARGE = 11 << 20


def client(url):
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name="eu-west-1",
        aws_access_key_id="remit",
        aws_secret_access_key="unused",
        aws_session_token=os.environ["TOKEN"],
        verify=os.environ.get("CA"),
        config=Config(
            signature_version="s3v4", s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}
        ),
    )


def run(s3, bucket, action, key):
    place = {"Bucket": bucket, "Key": key}
    if action == "put":
        s3.put_object(**place, Body=f"{key} by hand".encode(), ContentType="text/plain")
        return key
    if action == "stream":
        s3.put_object(**place, Body=io.BytesIO(b"x" * 200_000))
        return len(s3.get_object(**place)["Body"].read())
    if action == "multipart":
        parts = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20, max_concurrency=2)
        s3.upload_fileobj(io.BytesIO(b"y" * LARGE), bucket, key, Config=parts)
        return s3.head_object(**place)["ContentLength"]
    if action == "presigned":
        with urllib.request.urlopen(s3.generate_presigned_url("get_object", Params=place)) as reply:
            return reply.read().decode()
    if action == "get":
        return s3.get_object(**place)["Body"].read().decode()
    if action == "list":
        pages = s3.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=key, PaginationConfig={"PageSize": 1}
        )
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    if action == "delete":
        s3.delete_object(**place)
        return key
    raise SystemExit(f"no such action: {action}")


def main():
    url, bucket, action, key = sys.argv[1:]
    try:
        print(json.dumps({"done": run(client(url), bucket, action, key)}))
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        print(json.dumps({"error": {"status": status, "code": error.response["Error"]["Code"]}}))
        sys.exit(1)
    except urllib.error.HTTPError as error:
        print(json.dumps({"error": {"status": error.code, "code": error.reason}}))
        sys.exit(1)


main()
