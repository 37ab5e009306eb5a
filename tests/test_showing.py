"""What is noted while a process works, and shown of it where the settings want it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaError
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families as parsed

from collectors.answers import Unreachable
from collectors.troubles import Troubles
from explainer.backends import make
from explainer.cache import Answers
from infra.testbed.processes import free_ports
from kubewhy.kube.core import Pod
from kubewhy.records import Severity
from kubewhy.runtime.calls import Calls
from kubewhy.runtime.choosing import Choice, Price
from kubewhy.runtime.delivery import Delivery
from kubewhy.runtime.explaining import Explainer
from kubewhy.runtime.fleet.lag import of_all
from kubewhy.runtime.state import MemoryState
from kubewhy.runtime.telemetry.families import Metrics
from kubewhy.runtime.telemetry.metrics import (
    RELISTS,
    WATCHED,
    AnalyzerMetrics,
    CollectorMetrics,
    ExplainerMetrics,
    SinkMetrics,
)
from kubewhy.runtime.telemetry.notes import Notes
from kubewhy.runtime.telemetry.showing import showing
from sinks.samples import OPENED
from tests.api_server import CLUSTER, api_server
from tests.delivered import Kept
from tests.hurry import hurried
from tests.models.far import INPUT_TOKENS, OUTPUT_TOKENS, Far, Trouble, serving
from tests.models.openai import OpenAI
from tests.test_explaining import ANSWER, ASKED, Told
from tests.test_incidents import Clock, broken
from tests.test_metrics import clock, report
from tests.test_metrics import samples as shown_by
from tests.test_recorded import Calls as Target
from tests.test_run import Ended, kubewhy, lose, start
from tests.test_watching import until, watching


def settings(folder: Path, port: int, **more: Any) -> Path:
    path = folder / "kubewhy.yaml"
    path.write_text(json.dumps({"metrics": {"listen": f"127.0.0.1:{port}"}, **more}))
    return path


def asked(port: int, path: str) -> tuple[int, bytes]:
    """Status 0: nobody listens yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""


async def samples(port: int) -> dict[tuple[str, ...], float]:
    """Every sample, by its name and the values of its labels, in the order of the labels' names."""
    _, body = await asyncio.to_thread(asked, port, "/metrics")
    every = (sample for family in parsed(body.decode()) for sample in family.samples)
    return {(each.name, *each.labels.values()): each.value for each in every}


async def shown(port: int, *sample: str, value: float = 1) -> dict[tuple[str, ...], float]:
    """Returns once that is what is shown."""
    async with asyncio.timeout(60):
        while True:
            found = await samples(port)
            if found.get(sample) == value:
                return found
            await asyncio.sleep(0.1)


async def ready(port: int, status: int) -> Any:
    """The checks, once that is the answer."""
    async with asyncio.timeout(60):
        while True:
            answer = await asyncio.to_thread(asked, port, "/readyz")
            if answer[0] == status:
                return json.loads(answer[1])["checks"]
            await asyncio.sleep(0.1)


async def test_run_shows_all_that_it_does(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    config = settings(tmp_path, port, sinks=[{"type": "file", "name": "lines", "path": str(tmp_path / "lines")}])
    async with api_server() as server:
        process = await start("run", "--no-hold", "--config", config, "--kubeconfig", server.kubeconfig(tmp_path))
        await shown(port, "kubewhy_collector_active", CLUSTER)
        assert await ready(port, 200) == {"cluster": {"ok": True}}
        assert asked(port, "/healthz") == (200, b"ok\n")
        await lose(server, "data")
        await shown(port, "kubewhy_notifications_total", "delivered", "lines")
        await server.forget()
        found = await shown(port, "kubewhy_collector_relists_total", "expired", "persistentvolumeclaims")
    # The API server is away.
    assert server.url in (await ready(port, 503))["cluster"]["reason"]
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0
    assert found["kubewhy_incidents_open", CLUSTER, "critical"] == 1
    assert found["kubewhy_incidents_open", CLUSTER, "info"] == 0
    assert found["kubewhy_findings_total", "opened"] == 1
    assert found["kubewhy_collector_watch_events_total", "persistentvolumeclaims", "added"] == 1
    assert found["kubewhy_collector_cluster_info", CLUSTER, "shop"] == 1
    assert found["kubewhy_analyzer_reports_total",] >= 1
    assert found["kubewhy_explainer_latency_seconds_count",] == 1
    assert found["kubewhy_notification_latency_seconds_count", "lines"] == 1
    assert not any(name.startswith("kubewhy_kafka") for name, *_ in found)


async def test_without_settings_nothing_is_shown() -> None:
    async with showing(None, Notes(), "run", "cluster") as found:
        assert found is None


def test_without_settings_nothing_is_imported_for_it() -> None:
    imported = "import sys, kubewhy.cli.run; print([name for name in sys.modules if 'prometheus' in name])"
    done = subprocess.run([sys.executable, "-c", imported], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_package_that_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "prometheus_client.py").write_text("raise ModuleNotFoundError(name='prometheus_client')")
    done = subprocess.run(
        [sys.executable, "-m", "kubewhy", "run", "--config", settings(tmp_path, 0)],
        env={"PYTHONPATH": str(tmp_path), "PATH": os.defpath},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "kubewhy: metrics: needs a package that is not there (prometheus_client): pip install 'kubewhy[kafka]'\n"
    )


async def test_a_place_that_is_taken_is_told_in_one_line(tmp_path: Path) -> None:
    async with api_server() as server:
        told: Ended = await kubewhy("run", "--config", settings(tmp_path, server.port))
    assert (told.status, told.out, told.err.count("\n")) == (1, "", 1)
    assert f"cannot listen on 127.0.0.1:{server.port}" in told.err


@hurried
async def test_each_event_and_each_list_is_noted_with_its_kind(tmp_path: Path) -> None:
    events, lists = list[tuple[str, str]](), list[tuple[str, str]]()
    notes: dict[str, Any] = {
        "on_event": lambda *told: events.append(told),
        "on_list": lambda *told: lists.append(told),
    }
    async with api_server() as server, watching(server, tmp_path, Target(), **notes) as watched:
        await server.put(Pod, "a")
        await watched.settle()
        assert sorted(lists) == [("nodes", "start"), ("pods", "start")]
        await server.put(Pod, "b")
        await server.put(Pod, "b")
        await server.remove(Pod, "b")
        await until(watched, lambda: len(events) == 3)
        assert [(kind, what.lower()) for kind, what in events] == [("pods", each) for each in WATCHED[:3]]
        await server.forget()
        await until(watched, lambda: len(lists) == 4)
        assert sorted(lists[2:]) == [("nodes", "expired"), ("pods", "expired")]
        server.refused["pods"] = 403
        await server.forget()
        await until(watched, lambda: ("pods", None) in [(str(each), space) for each, space in watched._refused])
        del server.refused["pods"]
        await until(watched, lambda: lists[-1] == ("pods", "refused"), 700)
    assert {reason for _, reason in lists} <= set(RELISTS)


def test_a_cluster_is_out_of_reach_only_while_none_of_its_kinds_is_answered() -> None:
    told: list[str] = []
    troubles = Troubles("shop")
    troubles.on_reach = told.append
    troubles.begins("pods", Unreachable("it is busy", status=429))
    assert told == []
    troubles.begins("pods", Unreachable("it is away"))
    troubles.begins("nodes", Unreachable("it is away"))
    troubles.ends("pods")
    assert told == ["it is away", "it is away"]
    troubles.ends("nodes")
    assert told[2:] == [""]


async def test_of_models_every_call_is_noted_with_what_came_of_it(tmp_path: Path) -> None:
    clock, vendor = Told(), OpenAI()
    noted: list[Any] = []
    notes = Notes(
        called=lambda backend, model, outcome, seconds: noted.append((backend, model, outcome)),
        spent=lambda backend, model, completion, cost: noted.append((completion.input_tokens, cost)),
        looked_up=lambda found: noted.append("hit" if found else "miss"),
    )
    cost = (INPUT_TOKENS + 10 * OUTPUT_TOKENS) / 1e6
    async with serving(Far(vendor, json.dumps(ANSWER))) as far:
        backend = make(vendor.settings(far.url), vendor.environ())
        cache = Answers(tmp_path / "answers.sqlite", lambda: clock.now)
        explainer = Explainer(
            [Choice(backend, "model-7", Price(1.0, 10.0))], lambda: clock.now, b"k" * 32, cache=cache, notes=notes
        )
        calls = Calls(explainer)
        far.then(vendor.answer(ASKED, "no JSON"))
        clock.say("Pod shop/a", broken("oom"))
        clock.wait(60)
        await clock.explained(calls)
        assert noted == [
            "miss",
            (INPUT_TOKENS, pytest.approx(cost)),
            ("openai", "model-7", "unfit"),
            (INPUT_TOKENS, pytest.approx(cost)),
            ("openai", "model-7", "answered"),
        ]
        noted.clear()
        again = Told()
        again.say("Pod shop/a", broken("oom"))
        again.wait(60)
        await again.explained(calls)
        assert noted == ["hit"]
        for trouble, outcome in ((Trouble.WRONG_KEY, "misconfigured"), (Trouble.OVERLOADED, "failed")):
            noted.clear()
            far.then(vendor.refusal(trouble))
            clock.say("Pod shop/c", broken("oom", message=outcome))
            clock.wait(120)
            await clock.explained(calls)
            assert noted[:2] == ["miss", ("openai", "model-7", outcome)]
        await calls.close()


def test_what_is_open_is_counted_by_cluster_and_severity_also_where_it_is_none() -> None:
    told = Clock()
    assert told.stage.count() == {}
    told.beat()
    assert told.stage.count() == {("c", str(each)): 0 for each in Severity}
    told.say("Pod shop/a", broken())
    told.say("Pod shop/b", broken())
    assert told.stage.count() == {("c", "critical"): 2, ("c", "warning"): 0, ("c", "info"): 0}
    told.say("Pod shop/a")
    assert told.stage.count()["c", "critical"] == 1
    told.wait(61)
    assert told.stage.count()["c", "critical"] == 2, "nothing is heard of the cluster: that is one, too"
    assert told.stage.count().total() == len(list(told.stage.views()))


def test_what_is_over_before_its_hold_is_counted() -> None:
    told = Clock()
    told.say("Pod shop/a", broken(hold=60.0))
    told.say("Pod shop/b", broken(hold=60.0), broken("oom"))
    told.say("Pod shop/a")
    assert told.stage.spared() == 1
    told.wait(5)
    told.say("Pod shop/b")
    assert told.stage.spared() == 2, "what was told is not what people were spared"


async def test_what_a_sink_has_taken_is_noted_once_it_is_settled() -> None:
    noted: list[tuple[str, int]] = []
    notes = Notes(delivered=lambda sink, findings: noted.append((sink, len(findings))))
    state, sink = MemoryState(), Kept()
    delivery = Delivery({"one": sink}, state, notes=notes)
    async with delivery.running():
        delivery.post([("one", OPENED)], {})
        await delivery.end()
    assert noted == [("one", 1)]
    assert not list(state.scan("outbox"))


def test_of_what_is_said_again_no_age_is_told() -> None:
    metrics = Metrics("all")
    collector, analyzer = CollectorMetrics(metrics, "c1", clock=clock), AnalyzerMetrics(metrics, clock)
    explainer = ExplainerMetrics(metrics, clock)
    for each in (report(age=1800), replace(report(age=1800), restated=True)):
        collector.published(each)
        analyzer.judged([each], 1, 0.1)
        explainer.folded(each, [OPENED])
    told = shown_by(metrics)
    assert told["kubewhy_analyzer_reports_total"] == 2
    for role in ("collector", "analyzer", "explainer"):
        assert told[f"kubewhy_{role}_latency_seconds_count"] == 1


def test_where_a_digest_stands_for_it_people_were_spared() -> None:
    metrics = Metrics("sink")
    SinkMetrics(metrics, clock).delivered("slack", [OPENED, replace(OPENED, digest="many")])
    assert shown_by(metrics)['kubewhy_suppressed_total{reason="digest"}'] == 1


async def test_those_who_ask_are_asked_together_and_nobody_knows_where_there_is_none() -> None:
    async def one() -> dict[str, list[int]]:
        return {"evidence.v1": [1], "restated.v1": [5]}

    async def other() -> dict[str, list[int]]:
        return {"evidence.v1": [2], "claims.v1": []}

    assert await of_all([one, other]) == {"evidence.v1": [1, 2], "restated.v1": [5], "claims.v1": []}
    with pytest.raises(KafkaError):
        await of_all([])
