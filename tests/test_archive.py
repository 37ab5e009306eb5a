"""kubewhy archive: incidents back from what was archived, and from nothing else."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from kubewhy.cli.main import cli
from kubewhy.contracts import Letter
from kubewhy.errors import ConfigError
from kubewhy.records import Finding, encode
from kubewhy.runtime.recalling import Objects
from kubewhy.s3 import Bucket
from sinks.archive import objects
from tests.models.far import Reply
from tests.services.moto import Store, known, standing
from tests.services.s3 import refusal, refusing
from tests.test_incidents import Clock, broken
from tests.test_run import EXAMPLE, kubewhy

BATCH = 7


@pytest.fixture(scope="module")
def happened() -> list[Finding]:
    """Three incidents, of which one goes on, and one is silenced."""
    clock = Clock()
    clock.say("Pod shop/a", broken("oom", message="killed: \x1b[31mout of memory"))
    clock.wait(60)
    for number in range(20):
        clock.say(f"Pod shop/b-{number}", broken(), root="Deployment shop/b")
        clock.wait(40)
    clock.say("Pod shop/a")
    clock.wait(4000)
    clock.say("Pod shop/quiet", broken("oom"), ignore="*")
    return clock.findings


def letters(findings: Sequence[Finding]) -> list[Letter]:
    return [Letter(position, finding) for position, finding in enumerate(findings, 1)]


def write(folder: Path, findings: Sequence[Finding]) -> list[Path]:
    """In batches, of which every other comes a second time, cut in another way."""
    told, written = letters(findings), []
    for first in range(0, len(told), BATCH):
        batch = told[first : first + BATCH]
        for these in (batch, batch[1:] if first % 2 else []):
            for each in objects(these):
                path = folder / each.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(each.body)
                written.append(path)
    return written


def ask(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["archive", *map(str, words)])


def answered(*words: str | Path) -> list[Any]:
    told = ask(*words, "-o", "json")
    assert told.exit_code == 0, told.output + str(told.exception)
    return [json.loads(line) for line in told.stdout.splitlines()]


def refused(*words: str | Path) -> str:
    told = ask(*words)
    assert isinstance(told.exception, ConfigError), told.output
    return str(told.exception)


def as_json(record: msgspec.Struct) -> Any:
    return json.loads(encode(record))


def last_of(happened: Sequence[Finding]) -> dict[str, Finding]:
    return {each.incident.id: each for each in happened}


def test_every_incident_is_rebuilt_as_it_was_in_the_end(happened: list[Finding], tmp_path: Path) -> None:
    write(tmp_path, happened)
    last = last_of(happened)
    assert len(last) > 1
    for incident, finding in last.items():
        assert answered("rebuild", incident, "--from", tmp_path) == [as_json(finding)]
        every = [as_json(each) for each in happened if each.incident.id == incident]
        assert answered("show", incident, "--from", tmp_path) == every, "each of them once"
    assert answered("list", "--from", tmp_path) == [
        as_json(each.incident) for each in sorted(last.values(), key=lambda each: each.incident.opened_at)
    ]


def test_an_incident_is_named_by_the_beginning_of_its_id(happened: list[Finding], tmp_path: Path) -> None:
    write(tmp_path, happened)
    incident = happened[0].incident.id
    assert answered("rebuild", incident[:-1], "--from", tmp_path)[0]["incident"]["id"] == incident
    assert "incidents begin with" in refused("rebuild", "", "--from", tmp_path)
    assert "the archive tells of no incident nowhere" in refused("show", "nowhere", "--from", tmp_path)


def test_a_person_reads_what_happened(happened: list[Finding], tmp_path: Path) -> None:
    write(tmp_path, happened)
    first = happened[0].incident
    listed = ask("list", "--from", tmp_path).stdout
    assert ["recovered" in line for line in listed.splitlines() if "oom: Pod shop/a" in line] == [True]
    assert "silenced" in listed
    shown = ask("show", first.id, "--from", tmp_path).stdout
    assert [line.split()[1] for line in shown.splitlines() if "12:" in line[:3]] == ["OPENED", "RESOLVED"]
    rebuilt = ask("rebuild", first.id, "--from", tmp_path).stdout
    assert "recovered 2026-03-01" in rebuilt
    assert "out of memory" in rebuilt
    assert "\x1b" not in listed + shown + rebuilt


def test_what_is_damaged_is_named_and_left_out(happened: list[Finding], tmp_path: Path) -> None:
    cut, wrong, line, *_ = write(tmp_path, happened)
    whole = {each.incident.id for each in happened}
    cut.write_bytes(cut.read_bytes()[:-5])
    wrong.write_bytes(b"no gzip")
    lines = gzip.decompress(line.read_bytes()).splitlines()
    line.write_bytes(gzip.compress(b"\n".join([b'{"schema": "kubewhy.finding/v9"}', *lines])))
    (tmp_path / "cluster=c" / "notes.txt").write_text("of a person")
    told = ask("list", "--from", tmp_path, "-o", "json")
    found = {json.loads(each)["id"] for each in told.stdout.splitlines()}
    assert found <= whole
    assert found
    for path, said in ((cut, "it is cut short"), (wrong, "it is not compressed"), (line, "line 1 is no finding")):
        assert f"{path.name}: {said}" in told.stderr
    assert told.stderr.count("left out") == 3


def test_times_and_clusters_narrow_what_is_read(happened: list[Finding], tmp_path: Path) -> None:
    written = write(tmp_path, happened)
    first, *_, last = happened
    assert answered("list", "--from", tmp_path, "--cluster", "other") == []
    assert [each["id"] for each in answered("list", "--from", tmp_path, "--since", last.at.isoformat())] == [
        last.incident.id
    ]
    assert answered("list", "--from", tmp_path, "--until", first.at.isoformat()) == []
    assert answered("list", "--from", tmp_path, "--since", "1s") == []
    for path in written:
        path.write_bytes(b"")
    told = ask("list", "--from", tmp_path, "--since", "2026-03-02")
    assert (told.stdout, told.stderr) == ("The archive tells of no incident.\n", ""), (
        "what cannot have it is not even read"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--from", "/dev/null"], "/dev/null: no such folder; name one with objects of an archive, or s3://BUCKET"),
        (["--from", "s3://"], "s3://: is no place of an archive: write s3://BUCKET/PREFIX, or a folder"),
        (["--from", "http://a/b"], "is no place of an archive"),
        (["--from", "s3://A_B/c"], "s3://A_B/c: this is no name of a bucket"),
    ],
)
def test_where_no_archive_is_is_said(words: list[str], said: str) -> None:
    assert said in refused("list", *words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "say where the archive is: --from s3://BUCKET/PREFIX"),
        (["--from", "a", "--config", "b"], "say where the archive is"),
        (["--from", "a", "--since", "yesterday"], "'yesterday' is no time; write 2026-12-01"),
        (["--from", "a", "--until", "2026-13-01"], "'2026-13-01' is no time"),
        (["--from", "a", "--until", ""], "'' is no time"),
    ],
)
def test_wrong_words_are_said(words: list[str], said: str) -> None:
    told = ask("list", *words)
    assert told.exit_code == 2
    assert said in told.output


# From a bucket


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    known(monkeypatch)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", standing())
    return Store.made(standing())


def test_an_archive_is_read_from_its_bucket(store: Store, happened: list[Finding]) -> None:
    for batch in (letters(happened)[:9], letters(happened)[9:], letters(happened)[5:12]):
        for name, body in objects(batch):
            store.client.put_object(Bucket=store.bucket, Key=f"kubewhy/{name}", Body=body)
    for where in (f"s3://{store.bucket}/kubewhy", f"s3://{store.bucket}/kubewhy/cluster=c/"):
        for incident, finding in last_of(happened).items():
            assert answered("rebuild", incident, "--from", where) == [as_json(finding)]
    assert answered("list", "--from", f"s3://{store.bucket}/kubewhy", "--cluster", "d") == []
    assert answered("list", "--from", f"s3://{store.bucket}/elsewhere") == []


def test_the_settings_of_a_sink_lead_to_its_archive(store: Store, happened: list[Finding], tmp_path: Path) -> None:
    for name, body in objects(letters(happened)):
        store.client.put_object(Bucket=store.bucket, Key=f"kubewhy/{name}", Body=body)
    file = tmp_path / "kubewhy.yaml"
    file.write_text(
        f"sinks: [{{type: stdout}}, {{type: s3, bucket: {store.bucket}, prefix: kubewhy}}, "
        f"{{type: s3, name: other, bucket: {store.bucket}, prefix: other}}]"
    )
    incident = happened[0].incident.id
    assert answered("show", incident, "--config", file, "--sink", "s3")
    assert answered("list", "--config", file, "--sink", "other") == []
    assert "has 2 sinks of type s3; name one with --sink (s3, other)" in refused("list", "--config", file)
    assert "there is no sink othr of type s3; did you mean other?" in refused(
        "list", "--config", file, "--sink", "othr"
    )
    file.write_text("sinks: [{type: stdout}]")
    assert "has 0 sinks of type s3; add one, or say --from" in refused("list", "--config", file)


async def test_run_archives_the_broken_shop_and_all_of_it_comes_back(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "kubewhy.yaml"
    file.write_text(f"sinks: [{{type: stdout}}, {{type: s3, bucket: {store.bucket}, prefix: kubewhy}}]")
    told = await kubewhy("run", "--from", EXAMPLE, "--config", file)
    assert (told.status, told.err) == (0, "")
    last = {each["incident"]["id"]: each for each in told.findings}
    assert len(last) > 3
    listed = await kubewhy("archive", "list", "--config", file, "-o", "json")
    assert {each["id"]: each for each in listed.findings} == {key: each["incident"] for key, each in last.items()}
    incident = next(iter(last))
    rebuilt = await kubewhy("archive", "rebuild", incident, "--config", file, "-o", "json")
    assert rebuilt.findings == [last[incident]]
    bare = gzip.decompress(next(body for name, body in store.objects().items() if name.endswith(".gz")))
    assert json.loads(bare.splitlines()[0]) in told.findings


def test_what_the_first_version_archived_is_still_read(tmp_path: Path) -> None:
    line = (Path(__file__).parent / "golden" / "archived-v1.json").read_bytes()
    path = tmp_path / "cluster=c" / "date=2026-03-01" / "hour=12" / "1.ndjson.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(line))
    [found] = answered("show", json.loads(line)["incident"]["id"], "--from", tmp_path)
    assert json.loads(line).items() <= {**found, "incident": json.loads(line)["incident"]}.items()
    assert json.loads(line)["incident"].items() <= found["incident"].items()


async def test_all_pages_of_names_are_read(store: Store) -> None:
    pages = [
        f"<ListBucketResult><IsTruncated>{more}</IsTruncated><NextContinuationToken>a b</NextContinuationToken>"
        f"<Contents><Key>{key}</Key></Contents></ListBucketResult>"
        for more, key in (("true", "kubewhy/cluster=c/1"), ("false", "kubewhy/cluster=c/2"))
    ]
    async with refusing(*(Reply(200, page.encode(), {"content-type": "application/xml"}) for page in pages)) as far:
        bucket = Bucket(Store(far.url).settings())
        assert [name async for name in Objects(bucket, "kubewhy/").names("c")] == [
            "kubewhy/cluster=c/1",
            "kubewhy/cluster=c/2",
        ]
        await bucket.close()
    assert len(far.asked) == 2


def test_a_bucket_that_is_not_there_is_said(store: Store) -> None:
    assert "there is no bucket nowhere" in refused("list", "--from", "s3://nowhere/")


async def test_what_may_pass_is_asked_again_before_a_person_is(store: Store) -> None:
    whole, slow = Reply(200, b"whole", {}), refusal(503, "SlowDown", retry_after="0")
    for replies, expected in (((slow, slow, whole), b"whole"), ((slow,), None)):
        async with refusing(*replies) as far:
            archive = Objects(Bucket(Store(far.url).settings()), "", pauses=(0, 0))
            if expected:
                assert await archive.read("a") == expected
            else:
                with pytest.raises(ConfigError, match=r"cannot just now .*; try again later"):
                    await archive.read("a")
            await archive.close()
        assert len(far.asked) == 3
