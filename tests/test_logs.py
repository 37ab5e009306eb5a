"""The last lines of containers that died: when they are asked for, what of them is kept, and that nobody waits."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from analyzers.job import ANALYZER as JOB
from analyzers.pod import ANALYZER as POD
from analyzers.stage import AnalyzerStage
from collectors.logs import AT_ONCE, LINE, LINES, REFUSED_SECONDS, Death, deaths, plain, telling
from explainer.masking import redacted
from kubewhy.kube.batch import Job
from kubewhy.kube.core import Pod
from kubewhy.records import Evidence, Logged, Ref, Version, encode
from tests.api_server import api_server
from tests.hurry import hurried
from tests.test_live import Heard, collecting

NOW = datetime.now(UTC)
WAITING = {"waiting": {"reason": "CrashLoopBackOff"}}


def ended(code: int = 1, ago: timedelta = timedelta(minutes=1)) -> dict[str, Any]:
    at = (NOW - ago).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"terminated": {"exitCode": code, "reason": "Error", "startedAt": at, "finishedAt": at}}


RUNNING = {"running": {"startedAt": NOW.strftime("%Y-%m-%dT%H:%M:%SZ")}}


def status(
    state: dict[str, Any], last: dict[str, Any] | None = None, restarts: int = 0, name: str = "app"
) -> dict[str, Any]:
    return {"name": name, "restartCount": restarts, "state": state, "lastState": last or {}}


def pod(*containers: dict[str, Any], inits: tuple[dict[str, Any], ...] = (), **metadata: Any) -> dict[str, Any]:
    """The fields of one that runs these."""
    return {
        "metadata": metadata,
        "spec": {"containers": [{"name": each["name"]} for each in containers]},
        "status": {"phase": "Running", "containerStatuses": containers, "initContainerStatuses": inits},
    }


def crashed(restarts: int = 1, **metadata: Any) -> dict[str, Any]:
    return pod(status(WAITING, ended(), restarts), **metadata)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (pod(status(RUNNING)), []),
        (pod(status({"waiting": {"reason": "ContainerCreating"}})), []),
        (pod(status({"waiting": {"reason": "ImagePullBackOff"}})), []),
        (pod(status(ended(0))), []),
        (pod(status(RUNNING, ended(0), 1)), []),
        (pod(status(ended(1), ended(2), 3)), [Death("app", 3, previous=False)]),
        (pod(status(WAITING, ended(), 3)), [Death("app", 3, previous=True)]),
        (pod(status(WAITING, ended(0), 3)), [Death("app", 3, previous=True)]),
        (pod(status(WAITING)), [Death("app", 0, previous=True)]),
        (pod(status(RUNNING, ended(), 4)), [Death("app", 3, previous=True)]),
        (pod(status(RUNNING, ended(1, timedelta(hours=2)), 4)), []),
        (pod(status(WAITING, ended(1, timedelta(hours=2)), 4)), [Death("app", 4, previous=True)]),
        (pod(status(ended(1, timedelta(days=2)))), []),
        (pod(status(ended(0), ended(1), 2)), []),
        (pod(status(ended(1)), deletionTimestamp="2026-01-01T00:00:00Z"), []),
        (
            pod(
                status({"waiting": {"reason": "PodInitializing"}}),
                inits=(status(WAITING, ended(), 2, "migrate"), status({}, name="other")),
            ),
            [Death("migrate", 2, previous=True)],
        ),
    ],
)
def test_containers_that_died_are_asked_about_and_no_others(told: dict[str, Any], expected: list[Death]) -> None:
    assert list(deaths(msgspec.convert(told, Pod, strict=False), NOW)) == expected


def test_one_end_is_the_same_whatever_the_container_does_next() -> None:
    told = (status(ended(), restarts=2), status(WAITING, ended(), 2), status(RUNNING, ended(), 3))
    assert {each.run for one in told for each in deaths(msgspec.convert(pod(one), Pod, strict=False), NOW)} == {2}


JAVA = """\
Starting shop
Exception in thread "main" java.lang.IllegalStateException: no pool
\tat com.shop.Pool.open(Pool.java:7)
\tat com.shop.ErrorHandler.run(ErrorHandler.java:3)
Caused by: java.net.ConnectException: Connection refused
\tat java.base/sun.nio.ch.Net.pollConnect(Native Method)
\tat java.base/java.lang.Thread.run(Thread.java:1)
\t... 12 more
bye
"""


def test_errors_and_their_causes_are_kept_before_what_stands_around_them() -> None:
    kept = telling(JAVA)
    assert 'Exception in thread "main" java.lang.IllegalStateException: no pool' in kept
    assert "Caused by: java.net.ConnectException: Connection refused" in kept
    assert kept[-1] == "bye"
    assert not [line for line in kept if "ErrorHandler" in line]


def test_the_last_lines_are_kept_where_none_tells_more_than_others() -> None:
    assert telling("\n".join(map(str, range(20)))) == ("15", "16", "17", "18", "19")
    assert telling("one\n\n  \ntwo\n") == ("one", "two")
    assert telling("no host\n" * 9 + "giving up") == ("no host", "giving up")
    assert telling("") == ()


def test_the_very_last_line_is_kept_after_however_many_errors() -> None:
    assert telling("\n".join(f"error {number}" for number in range(9)) + "\nbye")[-2:] == ("error 8", "bye")


def test_a_line_is_cut_and_holds_nothing_that_does_not_show() -> None:
    assert telling(plain(b"\x1b[31mred\x1b[0m\x00 \xff\xfe \xe2\x80\xae done\x07")) == ("red  \ufffd\ufffd   done",)
    [long] = telling("x" * 5000)
    assert len(long) == LINE
    assert long.endswith("...")
    noise = telling(plain(bytes(range(256)) * 300))
    assert len(noise) <= LINES
    assert all(line.isprintable() and len(line) <= LINE for line in noise)


def test_of_more_than_is_read_the_last_line_is_left_out_for_it_is_none() -> None:
    assert telling(plain(b"whole\n" + b"x" * 70_000)) == ("whole",)
    assert telling(plain(b"whole\nlast")) == ("whole", "last")


@pytest.mark.parametrize(
    "said",
    [
        "unable to retrieve container logs for containerd://0123",
        'failed to try resolving symlinks in path "/var/log/pods/x/0.log": lstat: no such file or directory',
    ],
)
def test_what_a_kubelet_writes_in_place_of_a_log_is_none(said: str) -> None:
    assert telling(said) == ()


def lines(evidence: Evidence) -> list[tuple[str, ...]]:
    return [each.lines for each in evidence.logs]


@hurried
async def test_evidence_goes_out_at_once_and_again_with_the_lines(tmp_path: Path) -> None:
    async with api_server() as server:
        server.slow.clear()
        server.logs["web", "app-p"] = b"cannot open pool\n"
        await server.put(Pod, "web", **crashed())
        async with collecting(server, tmp_path, redact=redacted) as heard:
            await server.put(Pod, "marker")
            await heard.until(lambda: bool(heard.about("marker")))
            assert [lines(each) for each in heard.about("web")] == [[]]
            assert server.at_once == 1
            server.slow.set()
            await heard.until(lambda: len(heard.about("web")) == 2)
            assert heard.about("web")[1].logs == (Logged(container="app", lines=("cannot open pool",)),)
        pod, query = server.read[0]
        assert (pod, query.pop("limitBytes")) == ("web", "65536")
        assert query == {"container": "app", "previous": "true", "tailLines": "20", "timestamps": "false"}


@hurried
async def test_without_the_option_no_log_is_asked_for(tmp_path: Path) -> None:
    async with api_server() as server:
        server.logs["web", "app-p"] = b"no"
        await server.put(Pod, "web", **crashed())
        async with collecting(server, tmp_path) as heard:
            await server.put(Pod, "web", **crashed(2))
            await heard.until(lambda: len(heard.about("web")) == 2)
            assert not server.read
            assert b"logs" not in encode(heard.about("web")[-1])


@hurried
async def test_each_end_is_asked_about_once(tmp_path: Path) -> None:
    async with api_server() as server:
        server.logs |= {("web", "app"): b"first", ("web", "app-p"): b"second"}
        await server.put(Pod, "web", **pod(status(ended(), restarts=1)))
        async with collecting(server, tmp_path, redact=redacted) as heard:
            await heard.until(lambda: lines(heard.about("web")[-1]) == [("first",)])
            for told in (status(WAITING, ended(), 1), status(RUNNING, ended(), 2)):
                await server.put(Pod, "web", **pod(told))
            await asyncio.sleep(10)
            assert len(server.read) == 1
            assert lines(heard.about("web")[-1]) == [("first",)]
            await server.put(Pod, "web", **pod(status(WAITING, ended(), 2)))
            await heard.until(lambda: lines(heard.about("web")[-1]) == [("second",)])
            assert len(server.read) == 2


@hurried
async def test_the_lines_of_the_end_before_stay_until_those_of_the_new_one_are_here(tmp_path: Path) -> None:
    async with api_server() as server:
        server.logs["web", "app-p"] = b"first"
        await server.put(Pod, "web", **crashed(1))
        async with collecting(server, tmp_path, redact=redacted) as heard:
            await heard.until(lambda: lines(heard.about("web")[-1]) == [("first",)])
            server.slow.clear()
            await server.put(Pod, "web", **crashed(2))
            await heard.until(lambda: len(heard.about("web")) == 3)
            assert lines(heard.about("web")[-1]) == [("first",)]
            server.logs.clear()
            server.slow.set()
            await heard.until(lambda: lines(heard.about("web")[-1]) == [])


@hurried
async def test_what_recovers_or_goes_is_forgotten(tmp_path: Path) -> None:
    async with api_server() as server:
        server.logs["web", "app-p"] = b"first"
        await server.put(Pod, "web", **crashed(1))
        async with collecting(server, tmp_path, redact=redacted) as heard:
            await heard.until(lambda: lines(heard.about("web")[-1]) == [("first",)])
            await server.put(Pod, "web", **pod(status(RUNNING, ended(0), 2)))
            await heard.until(lambda: lines(heard.about("web")[-1]) == [])
            await server.put(Pod, "web", **crashed(1))
            await heard.until(lambda: lines(heard.about("web")[-1]) == [("first",)])
            await server.remove(Pod, "web")
            server.logs["web", "app-p"] = b"of another"
            await server.put(Pod, "web", **crashed(1, uid="uid-2"))
            await heard.until(lambda: lines(heard.about("web")[-1]) == [("of another",)])


@hurried
async def test_another_pod_of_the_same_name_has_no_lines_of_the_one_before(tmp_path: Path) -> None:
    async with api_server() as server:
        server.logs["web", "app-p"] = b"first"
        await server.put(Pod, "web", **crashed(1))
        async with collecting(server, tmp_path, redact=redacted) as heard:
            await heard.until(lambda: lines(heard.about("web")[-1]) == [("first",)])
            server.slow.clear()
            await server.put(Pod, "web", **crashed(1, uid="uid-2"))
            await heard.until(lambda: heard.about("web")[-1].uid == "uid-2")
            assert lines(heard.about("web")[-1]) == []


@hurried
async def test_so_many_are_read_at_once_and_no_more(tmp_path: Path) -> None:
    async with api_server() as server:
        server.slow.clear()
        for number in range(20):
            server.logs[f"p{number}", "app-p"] = b"gone"
            await server.put(Pod, f"p{number}", **crashed())
        async with collecting(server, tmp_path, redact=redacted) as heard:
            await server.put(Pod, "marker")
            await heard.until(lambda: bool(heard.about("marker")))
            assert server.at_once == len(server.read) == AT_ONCE
            server.slow.set()
            await heard.until(lambda: sum(bool(each.logs) for each in heard.of(Evidence)) == 20)
            assert len(server.read) == 20


@hurried
async def test_a_refusal_is_said_once_and_asked_again_after_ten_minutes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with api_server() as server:
        server.refused["log"] = 403
        server.logs["web", "app-p"] = server.logs["api", "app-p"] = b"gone"
        await server.put(Pod, "web", **crashed(1))
        await server.put(Pod, "api", **crashed(1))
        async with collecting(server, tmp_path, redact=redacted) as heard:
            await _beat(heard, 20)
            asked = len(server.read)
            assert asked in (1, 2)
            await server.put(Pod, "web", **crashed(2))
            await _beat(heard, REFUSED_SECONDS)
            assert len(server.read) == asked
            server.refused.clear()
            await server.put(Pod, "web", **crashed(3))
            await heard.until(lambda: lines(heard.about("web")[-1]) == [("gone",)])
            await server.put(Pod, "api", **crashed(1, labels={"app": "api"}))  # it has not ended again
            await heard.until(lambda: lines(heard.about("api")[-1]) == [("gone",)])
        [said] = [each.getMessage() for each in caplog.records if "logs" in each.getMessage()]
        assert said == (
            "shop: cannot read logs (forbidden: not to be had): going on without; "
            "grant what `kubewhy rbac --logs` prints"
        )


async def _beat(heard: Heard, seconds: float) -> None:
    await asyncio.sleep(seconds)
    assert not heard.ended.done()


@hurried
async def test_a_refusal_in_one_namespace_is_none_in_others(tmp_path: Path) -> None:
    async with api_server() as server:
        server.refused["log in shop"] = 403
        server.logs["web", "app-p"] = server.logs["api", "app-p"] = b"gone"
        await server.put(Pod, "web", **crashed())
        await server.put(Pod, "api", "bank", **crashed())
        async with collecting(server, tmp_path, redact=redacted) as heard:
            await heard.until(lambda: lines(heard.about("api")[-1]) == [("gone",)])


@pytest.mark.parametrize("code", [400, 404, 401, 500, 503, 302])
@hurried
async def test_where_there_is_none_nothing_is_said_and_the_next_end_is_asked_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    async with api_server() as server:
        server.refused["log"] = code
        server.logs["web", "app-p"] = b"gone"
        await server.put(Pod, "web", **crashed(1))
        async with collecting(server, tmp_path, redact=redacted) as heard:
            await _beat(heard, 60)
            assert len(server.read) == 1
            assert not caplog.records
            server.refused.clear()
            await server.put(Pod, "web", **crashed(2))
            await heard.until(lambda: lines(heard.about("web")[-1]) == [("gone",)])


@hurried
async def test_one_that_does_not_come_in_time_is_none_and_keeps_no_other_waiting(tmp_path: Path) -> None:
    async with api_server() as server:
        server.slow.clear()
        server.logs["web", "app-p"] = b"gone"
        for number in range(AT_ONCE):
            await server.put(Pod, f"a{number}", **crashed())
        async with collecting(server, tmp_path, redact=redacted) as heard:
            await _beat(heard, 6)
            server.slow.set()
            await server.put(Pod, "web", **crashed())
            await heard.until(lambda: bool(heard.about("web")) and lines(heard.about("web")[-1]) == [("gone",)])
            assert not [each for each in heard.of(Evidence) if each.ref.name != "web" and each.logs]


@hurried
async def test_one_without_an_end_or_of_any_bytes_is_read_so_far_and_no_further(tmp_path: Path) -> None:
    async with api_server() as server:
        server.endless.add("app-p")
        server.logs["web", "app-p"] = bytes(range(256)) * 4 + b"\nlast words\n"
        await server.put(Pod, "web", **crashed())
        async with collecting(server, tmp_path, redact=redacted) as heard:
            await heard.until(lambda: bool(heard.about("web")[-1].logs))
            assert "last words" in lines(heard.about("web")[-1])[0]
            assert len(encode(heard.about("web")[-1])) < 4000


@hurried
async def test_a_job_has_the_lines_of_its_pod(tmp_path: Path) -> None:
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "migrate", "uid": "uid-migrate", "controller": True}
    async with api_server() as server:
        server.logs["migrate-x", "app"] = b"no such table"
        await server.put(Pod, "migrate-x", **pod(status(ended()), ownerReferences=[owner]))
        await server.put(Job, "migrate")
        async with collecting(server, tmp_path, redact=redacted, judged=(POD, JOB)) as heard:
            await heard.until(lambda: lines(heard.about("migrate")[-1]) == [("no such table",)])
            await server.remove(Pod, "migrate-x")
            await heard.until(lambda: heard.about("migrate-x")[-1].gone)
            await server.put(Job, "migrate", status={"failed": 1})
            await heard.until(lambda: lines(heard.about("migrate")[-1]) == [])


def judged(*logs: Logged, **fields: Any) -> tuple[str, ...]:
    told = {**pod(status(WAITING, ended(), 5, "web"), inits=(status(ended(), name="init", restarts=1),)), **fields}
    told["metadata"] = {"name": "web-0", "namespace": "shop"}
    evidence = Evidence(
        cluster="c",
        version=Version(1, 1),
        ref=Ref("Pod", "web-0", "shop"),
        observed_at=NOW,
        object=msgspec.Raw(msgspec.json.encode(told)),
        logs=logs,
    )
    [report] = AnalyzerStage([POD]).feed(evidence, NOW)
    assert report.failures
    return report.seen


def test_lines_are_seen_after_the_states_and_change_no_failure() -> None:
    plain = judged()
    with_logs = judged(Logged(container="web", lines=("one", "two")), Logged(container="init", lines=("three",)))
    said = ["log of container web: one", "log of container web: two", "log of init container init: three"]
    assert [line for line in with_logs if line not in plain] == said
    assert tuple(line for line in with_logs if line not in said) == plain


def test_a_pod_of_many_containers_is_seen_in_so_many_lines() -> None:
    logs = [Logged(container=f"c{number}", lines=("x" * 500,) * 5) for number in range(50)]
    seen = judged(*logs)
    assert len(seen) <= 16
    assert all(len(line) < LINE + 30 for line in seen)
