"""S3 as moto plays it over HTTP, in a process of its own."""

import atexit
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from subprocess import DEVNULL, PIPE, Popen
from typing import Any
from urllib.request import Request, urlopen
from uuid import uuid4

import boto3
import pytest

from kubewhy.buckets import BucketSettings

REGION = "eu-central-1"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAPLANTED", "AWS_SECRET_ACCESS_KEY": "planted-secret-key"}

_SERVER = """
from moto.server import DomainDispatcherApplication, create_backend_app
from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import make_server
application = DomainDispatcherApplication(create_backend_app)
server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=MotoRequestHandler)
print(server.port, flush=True)
server.serve_forever()
"""


@contextmanager
def moto() -> Iterator[str]:
    """The address of a server that listens."""
    process = Popen([sys.executable, "-c", _SERVER], stdout=PIPE, stderr=DEVNULL, text=True)
    try:
        assert process.stdout
        port = process.stdout.readline().strip()
        assert port.isdecimal()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@cache
def standing() -> str:
    """The address of one for all tests of this process."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(moto())


class Store:
    """One bucket at that address, and what a bare client finds in it."""

    def __init__(self, url: str, bucket: str = "archive") -> None:
        self.url, self.bucket = url, bucket
        self.client: Any = boto3.client("s3", endpoint_url=url, region_name=REGION, **_named(KEYS))

    @staticmethod
    def made(url: str) -> "Store":
        """A new one."""
        store = Store(url, f"bucket-{uuid4().hex}")
        store.make()
        return store

    def make(self) -> None:
        self.client.create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": REGION})

    def settings(self, **more: Any) -> BucketSettings:
        return BucketSettings(**{"bucket": self.bucket, "endpoint": self.url, "region": REGION, **more})

    def user(self, *rights: str) -> dict[str, str]:
        """The credentials of one who has these rights under kubewhy/ and no others, which count from now on."""
        iam: Any = boto3.client("iam", endpoint_url=self.url, region_name=REGION, **_named(KEYS))
        name, places = uuid4().hex, [f"arn:aws:s3:::{self.bucket}", f"arn:aws:s3:::{self.bucket}/kubewhy/*"]
        allowed = {"Effect": "Allow", "Action": rights, "Resource": places}
        self._heed_rights_after("inf")
        iam.create_user(UserName=name)
        made = iam.create_access_key(UserName=name)["AccessKey"]
        policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
        iam.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=policy)
        self._heed_rights_after("0")
        return {"AWS_ACCESS_KEY_ID": made["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"]}

    def _heed_rights_after(self, calls: str) -> None:
        headers = {"content-type": "text/plain"}
        urlopen(Request(f"{self.url}/moto-api/reset-auth", calls.encode(), headers)).close()

    def remove(self) -> None:
        """The bucket, with all that is in it."""
        for name in self.objects():
            self.client.delete_object(Bucket=self.bucket, Key=name)
        self.client.delete_bucket(Bucket=self.bucket)

    def objects(self) -> dict[str, bytes]:
        """All that is in it."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        names = [each["Key"] for page in pages for each in page.get("Contents", ())]
        return {name: self.client.get_object(Bucket=self.bucket, Key=name)["Body"].read() for name in names}


def _named(keys: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in keys.items()}


def known(monkeypatch: pytest.MonkeyPatch, **environ: str) -> None:
    """Whoever runs the tests has these credentials and no others."""
    for name in ("AWS_CA_BUNDLE", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN", *KEYS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name, value in (environ or KEYS).items():
        monkeypatch.setenv(name, value)
