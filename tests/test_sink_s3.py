"""The archive on S3: what is written, that it is written once, and what refusals mean; against moto, and others."""

import gzip
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from aiohttp import web

from kubewhy.contracts import Letter
from kubewhy.errors import ConfigError, Rejected, RetryLater
from kubewhy.records import Finding, encode
from kubewhy.s3 import Bucket
from kubewhy.settings import Settings, load
from sinks import make
from sinks.archive import MANIFEST, Damaged, findings, objects, place
from sinks.s3 import S3Sink
from tests.delivered import Memory
from tests.models.far import Reply, Script, endless, half, silent
from tests.models.sts import ASSUMED, DENIED, role
from tests.services.moto import KEYS, Store, known, moto, standing
from tests.services.s3 import SECRET, refusal, refusing
from tests.views import DEPLOYMENT, told, view

AT = datetime(2026, 3, 1, 12, 59, 58, tzinfo=UTC)
EMPTY = Reply(200, b"", {"etag": '"1"'})


def letter(position: int, *, cluster: str = "c", at: datetime = AT, silenced: bool = False, **more: Any) -> Letter:
    incident = view(told(DEPLOYMENT), id=f"i{position}", cluster=cluster, silenced=silenced)
    fields: dict[str, Any] = {"transition": "opened", "revision": 1, "incident": incident, **more}
    return Letter(position, Finding(id=f"f{position}", at=at, **fields))


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch)


@pytest.fixture
def store() -> Store:
    return Store.made(standing())


async def send(store: Store, letters: Sequence[Letter], memo: Memory | None = None, **more: Any) -> None:
    sink = S3Sink(Bucket(store.settings(**more)))
    try:
        await sink.send(letters, memo or Memory())
        assert not await sink.spare(memo or Memory())
    finally:
        await sink.close()


def archived(store: Store) -> dict[str, list[Finding]]:
    """The findings of each object, as a bare client and gzip read them."""
    bodies = {name: body for name, body in store.objects().items() if MANIFEST not in name}
    lines = {name: gzip.decompress(body).splitlines() for name, body in bodies.items()}
    return {name: [msgspec.json.decode(line, type=Finding) for line in those] for name, those in lines.items()}


# What is written


async def test_a_batch_is_one_object_for_each_cluster_and_hour(store: Store) -> None:
    letters = [
        letter(7),
        letter(8, cluster="arn:aws:eks/a b"),
        letter(9, at=AT + timedelta(seconds=2)),
        letter(10, silenced=True),
        letter(11, at=AT.astimezone(datetime.strptime("+0530", "%z").tzinfo)),
    ]
    await send(store, letters, prefix="kubewhy")
    found = archived(store)
    assert {name.rpartition("/")[0]: [each.id for each in those] for name, those in found.items()} == {
        "kubewhy/cluster=c/date=2026-03-01/hour=12": ["f7", "f10", "f11"],
        "kubewhy/cluster=arn%3Aaws%3Aeks%2Fa%20b/date=2026-03-01/hour=12": ["f8"],
        "kubewhy/cluster=c/date=2026-03-01/hour=13": ["f9"],
    }
    assert [msgspec.json.decode(encode(letters[0].finding), type=Finding)] == found[min(found, key=len)][:1]
    assert {place(name) for name in found} >= {("arn:aws:eks/a b", datetime(2026, 3, 1, 12, tzinfo=UTC))}
    assert all(
        name.rpartition("/")[2].startswith(f"{7 + index:016d}-")
        for index, name in enumerate(sorted(found, key=lambda name: name.rpartition("/")[2]))
    )


async def test_the_same_letters_are_the_same_objects_and_are_written_once(store: Store) -> None:
    store.client.put_bucket_versioning(Bucket=store.bucket, VersioningConfiguration={"Status": "Enabled"})
    letters, memo = [letter(number) for number in range(20)], Memory()
    await send(store, letters, memo)
    before = store.objects()
    for _ in range(3):
        await send(store, letters, memo)
    assert store.objects() == before
    versions = store.client.list_object_versions(Bucket=store.bucket)["Versions"]
    assert len(versions) == len(before) == 2


async def test_other_letters_of_the_same_positions_are_kept_beside(store: Store) -> None:
    """As after the loss of a state, or when an old one is brought back."""
    await send(store, [letter(1), letter(2)])
    other = [Letter(1, msgspec.structs.replace(letter(5).finding, id="other"))]
    await send(store, other)
    assert sorted(each.id for those in archived(store).values() for each in those) == ["f1", "f2", "other"]


async def test_the_schema_lies_beside_the_lines_and_they_fit_it(store: Store) -> None:
    memo = Memory()
    await send(store, [letter(1)], memo)
    schema = json.loads(store.objects()[MANIFEST])
    for line in gzip.decompress(next(body for name, body in store.objects().items() if name != MANIFEST)).splitlines():
        jsonschema.Draft202012Validator(schema).validate(json.loads(line))
    store.client.delete_object(Bucket=store.bucket, Key=MANIFEST)
    await send(store, [letter(2)], memo)
    assert MANIFEST not in store.objects(), "it is put once"


async def test_nothing_is_written_where_nothing_came(store: Store) -> None:
    assert list(objects([])) == []


# How it is written


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"encryption": "sse-s3"}, {"ServerSideEncryption": "AES256"}),
        ({"encryption": "sse-kms"}, {"ServerSideEncryption": "aws:kms"}),
        (
            {"encryption": "sse-kms", "kms_key": "arn:aws:kms:eu-central-1:111122223333:key/1"},
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "arn:aws:kms:eu-central-1:111122223333:key/1"},
        ),
    ],
)
async def test_it_is_encrypted_as_told(store: Store, told: dict[str, Any], expected: dict[str, str]) -> None:
    await send(store, [letter(1)], **told)
    for name in store.objects():
        head = store.client.head_object(Bucket=store.bucket, Key=name)
        assert {key: head.get(key) for key in expected} == expected


async def test_a_bucket_that_locks_its_objects_takes_them(store: Store) -> None:
    store.client.put_bucket_versioning(Bucket=store.bucket, VersioningConfiguration={"Status": "Enabled"})
    store.client.put_object_lock_configuration(
        Bucket=store.bucket,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}},
        },
    )
    await send(store, [letter(1)])
    await send(store, [letter(1)])
    assert len(archived(store)) == 1


async def test_only_what_every_store_knows_is_sent() -> None:
    async with refusing(EMPTY) as far:
        await send(Store(far.url), [letter(1)], path_style=True)
    for asked in far.asked:
        assert asked.method == "PUT"
        assert asked.path.startswith("/archive/")
        headers = {name.lower() for name in asked.headers}
        assert "content-md5" in headers
        assert not {name for name in headers if "checksum" in name or "trailer" in name or name == "content-encoding"}
        assert asked.headers.get("Transfer-Encoding") is None


async def test_a_store_without_conditions_is_asked_without() -> None:
    async with refusing(EMPTY, refusal(501, "NotImplemented"), EMPTY) as far:
        bucket = Bucket(Store(far.url).settings())
        sink, memo = S3Sink(bucket), Memory()
        await sink.send([letter(1)], memo)
        await sink.send([letter(2)], memo)
        await sink.close()
    assert ["If-None-Match" in asked.headers for asked in far.asked] == [False, True, False, False]


async def test_a_role_is_assumed_by_the_default_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = role(tmp_path)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for name in KEYS:
        monkeypatch.delenv(name)
    async with refusing(Reply(200, ASSUMED.encode(), {"content-type": "text/xml"}), EMPTY) as far:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", far.url)
        await send(Store(far.url), [letter(1)], **told)
    assert b"AssumeRole" in far.asked[0].body
    assert [asked.headers.get("X-Amz-Security-Token") for asked in far.asked[1:]] == ["session-1", "session-1"]
    async with refusing(Reply(403, DENIED.encode(), {"content-type": "text/xml"})) as far:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", far.url)
        with pytest.raises(ConfigError, match=r"gives no credentials \(AssumeRole is refused, 403\): sign in, or set"):
            await send(Store(far.url), [letter(1)], **told)


async def test_the_right_to_put_is_enough_and_others_are_needed_to_look_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with moto() as url:
        store = Store.made(url)
        known(monkeypatch, **store.user("s3:PutObject"))
        for _ in range(2):
            await send(store, [letter(1)], prefix="kubewhy/")
        with pytest.raises(ConfigError, match=r"has no access to .*: grant s3:PutObject under elsewhere/"):
            await send(store, [letter(1)], prefix="elsewhere/")
        bucket = Bucket(store.settings(prefix="kubewhy/"))
        with pytest.raises(ConfigError, match=r"has no access to .*: grant s3:ListBucket under kubewhy/"):
            await names(bucket)
        await bucket.close()

        known(monkeypatch, **store.user("s3:ListBucket", "s3:GetObject"))
        bucket = Bucket(store.settings(prefix="kubewhy/"))
        for name in await names(bucket):
            assert await bucket.get(name)
        with pytest.raises(ConfigError, match="grant s3:PutObject"):
            await bucket.put("kubewhy/a", b"", "text/plain")
        await bucket.close()


async def names(bucket: Bucket) -> list[str]:
    found = [name async for name in bucket.keys("kubewhy/")]
    assert len(found) == 2
    return found


# What is refused


async def closed(request: web.Request) -> web.StreamResponse:
    """Hangs up without a word."""
    assert request.transport
    request.transport.close()
    return web.Response()


async def test_a_bucket_that_is_not_there_is_a_persons_to_mend(store: Store) -> None:
    with pytest.raises(ConfigError, match=r"there is no bucket elsewhere at http://127.* \(NoSuchBucket\): create it"):
        await send(store, [letter(1)], bucket="elsewhere")


REGION = "<Region>us-west-2</Region>"
MENDED = {
    "denied": (refusal(403, "AccessDenied"), "has no access to .*: grant s3:PutObject under kubewhy/"),
    "no such key id": (refusal(403, "InvalidAccessKeyId"), "is not accepted by .*: check or renew it"),
    "wrong secret": (refusal(403, "SignatureDoesNotMatch"), "is not accepted by .*: check or renew it"),
    "expired": (refusal(400, "ExpiredToken"), r"what AWS's default chain gives has expired \(ExpiredToken\): renew"),
    "clock": (refusal(403, "RequestTimeTooSkewed"), "this machine's clock is wrong, says bucket archive .*: set it"),
    "moved": (
        refusal(301, "PermanentRedirect", x_amz_bucket_region="us-west-2"),
        "bucket archive is in region us-west-2, not in eu-central-1: write `region: us-west-2`",
    ),
    "signed for another region": (
        refusal(400, "AuthorizationHeaderMalformed", REGION),
        "bucket archive is in region us-west-2, not in eu-central-1: write `region: us-west-2`",
    ),
    "redirected": (
        Reply(302, b"", {"location": "http://elsewhere.example"}),
        r"is elsewhere \(302\): write the region",
    ),
    "no such KMS key": (refusal(400, "KMS.NotFoundException"), "the key for encryption cannot be used .*`kms_key`"),
    "disabled KMS key": (refusal(400, "KMS.DisabledException"), "the key for encryption cannot be used .*`kms_key`"),
    "unheard of": (refusal(400, "InvalidRequest"), r"does not take the request \(InvalidRequest, 400\): check"),
    "a page": (Reply(404, b"<html>no</html>", {"content-type": "text/html"}), r"there is no bucket archive .* \(404\)"),
}
PASSES: dict[str, tuple[Reply | Script, str]] = {
    "slow down": (refusal(503, "SlowDown"), r"cannot just now \(SlowDown, 503\)"),
    "broken": (refusal(500, "InternalError"), r"cannot just now \(InternalError, 500\)"),
    "at the same time": (refusal(409, "ConditionalRequestConflict"), "cannot just now"),
    "slow upload": (refusal(400, "RequestTimeout"), "cannot just now"),
    "gateway": (Reply(502, b"<html>", {}), r"cannot just now \(502, 502\)"),
    "silent": (silent, "gives no answer within 1 seconds"),
    "half": (half(refusal(200, "x")), "broke before the answer was complete"),
    "closed": (closed, "broke before the answer was complete"),
}


@pytest.mark.parametrize("case", MENDED)
async def test_what_a_person_can_mend_is_said_in_one_line(case: str) -> None:
    reply, said = MENDED[case]
    async with refusing(reply) as far:
        with pytest.raises(ConfigError, match=said) as caught:
            await send(Store(far.url), [letter(1)], prefix="kubewhy/")
    _clean(caught.value, far)


@pytest.mark.parametrize("case", PASSES)
async def test_what_may_pass_is_to_be_tried_again(case: str) -> None:
    reply, said = PASSES[case]
    async with refusing(reply) as far:
        sink = S3Sink(Bucket(Store(far.url).settings(), 1.0))
        with pytest.raises(RetryLater, match=said) as caught:
            await sink.send([letter(1)], Memory())
        await sink.close()
    _clean(caught.value, far)


def _clean(error: Exception, far: Any) -> None:
    assert "\n" not in str(error)
    assert SECRET not in str(error)
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in str(error)
    assert len(far.asked) == 1, "the library tries nothing again"


async def test_a_reply_that_does_not_end_ends() -> None:
    async with refusing(endless) as far:
        sink = S3Sink(Bucket(Store(far.url).settings(), 1.0))
        with pytest.raises(RetryLater, match=r"(does not end|gives no answer within 1 seconds)"):
            await sink.send([letter(1)], Memory())
        await sink.close()


async def test_how_long_to_wait_is_passed_on() -> None:
    async with refusing(refusal(503, "SlowDown", retry_after="7")) as far:
        with pytest.raises(RetryLater) as caught:
            await send(Store(far.url), [letter(1)])
    assert caught.value.after == 7


async def test_what_is_too_large_is_refused() -> None:
    async with refusing(EMPTY, refusal(400, "EntityTooLarge")) as far:
        with pytest.raises(Rejected, match="takes no object of that size"):
            await send(Store(far.url), [letter(1)])


async def test_where_nobody_listens_is_tried_again() -> None:
    with pytest.raises(RetryLater, match=r"bucket archive at http://127\.0\.0\.1:9 cannot be reached"):
        await send(Store("http://127.0.0.1:9"), [letter(1)])


async def test_no_credentials_are_a_persons_to_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch, AWS_MAX_ATTEMPTS="1")
    with pytest.raises(ConfigError, match=r"gives no credentials \(NoCredentialsError\): sign in, or set a profile"):
        await send(Store("http://127.0.0.1:9"), [letter(1)])


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"profile": "nobody"}, "there is no AWS profile nobody: check `profile`"),
        ({"ca_file": "/nowhere.pem"}, "/nowhere.pem: no such file of certificates: check `ca_file`"),
    ],
)
def test_what_cannot_work_is_said_at_the_start(told: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Bucket(Store("http://127.0.0.1:9").settings(**told))


async def test_a_region_that_there_is_not_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    with pytest.raises(ConfigError, match="there is no region eu-centrl-1: check `region`; did you mean eu-central-1"):
        await send(Store("http://127.0.0.1:9"), [letter(1)], endpoint=None, region="eu-centrl-1")


# Settings


def test_an_archive_takes_also_what_is_silenced() -> None:
    settings = Settings.model_validate({"sinks": [{"type": "s3", "bucket": "archive"}]}).sinks[0]
    assert settings.silenced
    assert not settings.digest
    assert isinstance(make(settings, {}), S3Sink)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("{type: s3}", r"sinks\[0\]\.bucket: is missing; it has to be given"),
        ("{type: s3, bucket: a/b}", r"sinks\[0\]\.bucket: this is no name of a bucket; write the name alone"),
        ("{type: s3, bucket: abc, prefix: /a}", r"sinks\[0\]\.prefix: a prefix is a path within the bucket without"),
        ("{type: s3, bucket: abc, region: EU}", r"sinks\[0\]\.region: .*pattern"),
        ("{type: s3, bucket: abc, endpoint: 'ftp://a'}", r"sinks\[0\]\.endpoint: write an address as in https://s3"),
        ("{type: s3, bucket: abc, encryption: aes}", r"sinks\[0\]\.encryption: input should be 'sse-s3' or 'sse-kms'"),
        ("{type: s3, bucket: abc, kms_key: a}", r"sinks\[0\]: `kms_key` goes with `encryption: sse-kms`"),
        ("{type: s3, bucket: abc, acces_key: a}", r"sinks\[0\]\.acces_key: unknown key.*known here: bucket, ca_file"),
    ],
)
def test_wrong_settings_are_one_clear_line(told: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "kubewhy.yaml"
    file.write_text(f"sinks: [{told}]")
    with pytest.raises(ConfigError, match=said):
        load(file)


# What is damaged


def test_what_is_no_object_of_an_archive_is_said() -> None:
    [whole] = objects([letter(1), letter(2)])
    for body, said in (
        (b"", "cut short"),
        (whole.body[:-9], "cut short"),
        (whole.body + b"x", "more was written"),
        (b"no gzip", "not compressed"),
    ):
        with pytest.raises(Damaged, match=said):
            list(findings(body))
    lines = gzip.decompress(whole.body).splitlines()
    told = list(findings(gzip.compress(b"\n".join([lines[0], b"{}", lines[1], b'{"a": 1']))))
    assert [each.id if isinstance(each, Finding) else str(each) for each in told] == [
        "f1",
        "line 2 is no finding that this kubewhy knows",
        "f2",
        "line 4 is no finding that this kubewhy knows",
    ]


def test_names_of_other_objects_are_none_of_ours() -> None:
    for name in (MANIFEST, "a", "cluster=c/date=2026-13-01/hour=00/1.ndjson.gz", "cluster=c/date=2026-03-01/a.gz"):
        assert place(name) is None
