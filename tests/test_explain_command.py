"""`analyze --explain`, `explain`, `explain preview` and `cache`: as a user runs them, against a model on loopback."""

import asyncio
import json
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.models.far import Far, Trouble, serving
from tests.models.openai import OpenAI
from tests.test_explaining import ANSWER
from tests.test_run import EXAMPLE, Ended, kubewhy

ROOT = "deploy/search"


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MODEL_KEY", "sk-planted")


@asynccontextmanager
async def model(**answer: object) -> AsyncIterator[Far]:
    """A backend named openai, kept as the default."""
    async with serving(Far(OpenAI(), json.dumps(ANSWER | answer))) as far:
        where = ("--model", "model-7", "--url", far.url + "/v1", "--key-env", "MODEL_KEY")
        assert (await kubewhy("backends", "add", "openai", *where)).status == 0
        yield far


async def said(*args: str | Path) -> Ended:
    told = await kubewhy(*args)
    assert "Traceback" not in told.err
    assert "sk-planted" not in told.err + told.out
    return told


async def test_analyze_explains_each_incident_and_asks_nothing_twice() -> None:
    async with model() as far:
        first = await said("analyze", "--from", EXAMPLE, "--explain", "-o", "json")
        document = json.loads(first.out)
        assert (first.status, first.err) == (0, "")
        assert len(document["incidents"]) == len(far.asked) == document["summary"]["incidents"]
        for each in document["incidents"]:
            assert each["explanation"]["cause"] == ANSWER["cause"]
            assert each["explanation"]["verify"] == ["kubectl describe pod a -n shop"]
            assert not each["explanation"]["cached"]
        again = json.loads((await said("analyze", "--from", EXAMPLE, "--explain", "-o", "json")).out)
        assert all(each["explanation"]["cached"] for each in again["incidents"])
        assert len(far.asked) == len(document["incidents"])
        await said("analyze", "--from", EXAMPLE, "--explain", "--no-cache")
        assert len(far.asked) == 2 * len(document["incidents"])


async def test_analyze_without_a_model_asks_nobody() -> None:
    async with model() as far:
        document = json.loads((await said("analyze", "--from", EXAMPLE, "-o", "json")).out)
        assert {each["explanation"] for each in document["incidents"]} == {None}
        assert not far.asked


async def test_people_read_it_beneath_the_rules_words() -> None:
    async with model():
        told = await said("analyze", "--from", EXAMPLE, "--explain", "--language", "German")
    assert told.out.count("explained: (model-7 by openai, confidence high") == told.out.count("  root: ")
    assert told.out.index("why it matters:") < told.out.index("explained:") < told.out.index("1. raise its memory")


async def test_names_leave_masked_unless_told_otherwise_and_secrets_always() -> None:
    async with model() as far:
        await said("explain", ROOT, "--from", EXAMPLE)
        await said("explain", ROOT, "--from", EXAMPLE, "--no-mask")
    masked, plain = (each.body.decode() for each in far.asked)
    assert "search-7498cf86fd" not in masked
    assert "registry.example.com" not in masked
    assert "search-7498cf86fd" in plain
    assert "registry.example.com" in plain


async def test_the_preview_is_what_leaves() -> None:
    async with model() as far:
        preview = json.loads((await said("explain", "preview", ROOT, "--from", EXAMPLE, "-o", "json")).out)
        assert not far.asked
        await said("explain", ROOT, "--from", EXAMPLE)
    system, user = (each["content"] for each in far.asked[0].json["messages"])
    mark, drawn = (text.split("<incident ")[1].split(">")[0] for text in (preview["user"], user))
    assert mark != drawn
    assert preview["user"].replace(mark, drawn) == user
    assert preview["system"].replace(mark, drawn) == system


async def test_the_preview_needs_no_model_and_shows_all_incidents() -> None:
    told = await said("explain", "preview", "--from", EXAMPLE)
    assert (told.status, told.err) == (0, "")
    assert told.out.count("title: ") == 5
    assert "search-7498cf86fd" not in told.out


async def test_one_incident_is_explained_by_an_object_in_it_or_its_id() -> None:
    async with model() as far:
        told = json.loads((await said("explain", ROOT, "--from", EXAMPLE, "-o", "json")).out)
        assert told["incident"]["root"]["name"] == "search"
        by_id = await said("explain", told["incident"]["id"][:8], "--from", EXAMPLE)
        assert "An image cannot be had: Deployment search/search" in by_id.out
        assert "answered before" in by_id.out
        assert len(far.asked) == 1


async def test_run_has_the_default_explain_where_it_is_told_to() -> None:
    async with model() as far:
        silent = await said("run", "--from", EXAMPLE, "-o", "json")
        assert not far.asked
        told = await said("run", "--from", EXAMPLE, "--explain", "-o", "json")
    assert "explained" not in {each["transition"] for each in silent.findings}
    explained = [each for each in told.findings if each["transition"] == "explained"]
    assert len(explained) == len(far.asked) > 3
    assert {each["explanation"]["backend"] for each in explained} == {"openai"}


async def test_what_a_run_keeps_can_be_explained(tmp_path: Path) -> None:
    missing = await said("explain", "--state", tmp_path / "none", ROOT)
    assert missing.status == 1


@pytest.mark.parametrize(
    ("args", "fault"),
    [
        (("analyze", "--explain"), "there is no model to ask yet"),
        (("explain", ROOT), "there is no model to ask yet"),
        (("run", "--explain"), "there is no model to ask yet"),
        (("analyze", "--explain", "--backend", "opnai"), "there is no backend opnai"),
        (("analyze", "--language", "German"), "go with --explain"),
        (("analyze", "--explain", "--language", "Ger{man"), "is no name of a language"),
        (("explain", "preview"), None),
        (("explain", "preview", "deploy/none"), "no incident is 'deploy/none' or holds it"),
        (("explain", "preview", "zebra/none"), "unknown kind 'zebra'"),
        (("explain", "preview", "a", "b"), "give one incident"),
    ],
)
async def test_what_is_wrong_gets_one_line(args: tuple[str, ...], fault: str | None) -> None:
    told = await said(*args, "--from", EXAMPLE)
    if fault is None:
        assert told.status == 0
        return
    assert told.status in (1, 2)
    assert fault in told.err
    assert len(told.err.splitlines()) == 1
    assert told.out == ""


@pytest.mark.parametrize("trouble", [Trouble.WRONG_KEY, Trouble.UNKNOWN_MODEL, Trouble.FILTERED, Trouble.SPENT])
async def test_a_model_that_refuses_costs_no_finding(trouble: Trouble) -> None:
    async with model() as far:
        far.then(*[far.vendor.refusal(trouble)] * 20)
        told = await said("analyze", "--from", EXAMPLE, "--explain", "--fail-on", "critical", "-o", "json")
        assert told.status == 3
        document = json.loads(told.out)
        assert {each["explanation"] for each in document["incidents"]} == {None}
        assert len(told.err.splitlines()) == (0 if trouble is Trouble.FILTERED else 1)


async def test_a_busy_model_is_waited_for() -> None:
    async with model() as far:
        far.then(far.vendor.refusal(Trouble.OVERLOADED))
        told = json.loads((await said("explain", ROOT, "--from", EXAMPLE, "-o", "json")).out)
        assert told["explanation"]["cause"] == ANSWER["cause"]
        assert len(far.asked) == 2


async def test_answers_are_listed_shown_and_removed() -> None:
    async with model() as far:
        await said("analyze", "--from", EXAMPLE, "--explain")
        count = len(far.asked)
    listed = json.loads((await said("cache", "list", "-o", "json")).out)
    assert len(listed) == count
    assert {(each["backend"], each["by"], each["language"]) for each in listed} == {("openai", "model-7", "English")}
    key = listed[0]["key"]
    shown = json.loads((await said("cache", "get", key[:12], "-o", "json")).out)
    assert shown["answer"]["cause"] == ANSWER["cause"]
    assert str(ANSWER["cause"]) in (await said("cache", "get", key)).out
    assert key[:12] in (await said("cache", "list")).out
    assert (await said("cache", "purge", key)).out == "removed 1 answer\n"
    assert (await said("cache", "get", key)).status == 1
    assert (await said("cache", "purge", "--older-than", "1h")).out == "removed 0 answers\n"
    assert (await said("cache", "purge")).status == 2
    assert (await said("cache", "purge", "--all")).out == f"removed {count - 1} answers\n"
    assert (await said("cache", "list", "-o", "json")).out == "[]\n"
    assert (await said("cache", "list")).out == "No answer is kept.\n"


async def test_a_full_disk_costs_the_cache_and_nothing_else(tmp_path: Path) -> None:
    """The same to a program as a disk without room: no file of its may grow beyond so much."""
    async with model() as far:
        command = [sys.executable, "-m", "kubewhy", "analyze", "--from", str(EXAMPLE), "--explain", "-o", "json"]
        process = await asyncio.create_subprocess_exec(
            *command,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000)),
        )
        out, err = (each.decode() for each in await process.communicate())
        incidents = json.loads(out)["incidents"]
        assert process.returncode == 0
        assert len(far.asked) == len(incidents) == 5
        assert [each["explanation"]["cause"] for each in incidents] == [ANSWER["cause"]] * 5
    (line,) = err.splitlines()
    assert "answers.sqlite: no cache of answers" in line
    assert "Traceback" not in line
