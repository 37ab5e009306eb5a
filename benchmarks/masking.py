"""Masking what a model would read: messages and log lines, as clusters write them."""

import gc
import random
import time
from collections.abc import Callable, Iterator

import msgspec

from benchmarks.cluster import Bench
from benchmarks.programs import python, run
from benchmarks.table import Row
from explainer.masking import Masker, Name

FAST = 5.0  # MB a second, on one core
LINES, TIMES = 20_000, 5


def masking(bench: Bench) -> Iterator[Row]:
    """In a process of its own."""
    yield from msgspec.json.decode(run(python("benchmarks.masking")).output, type=list[Row])


def main() -> Iterator[Row]:
    """The best of a few."""
    drawn = random.Random(1)
    names = list(_names(drawn))
    pods = [name.text for name in names if name.sort == "Pod"]
    usual = "\n".join(drawn.choice(_USUAL)(drawn, drawn.choice(pods)) for _ in range(LINES))
    dense = "\n".join(drawn.choice(_DENSE)(drawn, drawn.choice(pods)) for _ in range(LINES))
    rate = _rate(names, usual)
    yield Row(
        "masking", f"{rate:.1f} MB a second", f"{rate / FAST:.2f} x the limit", f"at least {FAST:g}", rate >= FAST
    )
    yield Row("masking, names and secrets alone", f"{_rate(names, dense):.1f} MB a second")


def _rate(names: list[Name], text: str) -> float:
    Masker(b"key", names).mask("patterns are compiled once, by the first text")
    gc.freeze()
    taken = []
    for _ in range(TIMES):
        begun = time.process_time()
        Masker(b"key", names).mask(text)
        taken.append(time.process_time() - begun)
    return len(text.encode()) / min(taken) / 1e6


def _names(drawn: random.Random) -> Iterator[Name]:
    for team in ("payments", "orders", "cart", "users", "search"):
        yield Name("Namespace", f"{team}-ns")
        for part in ("gateway-x", "worker-x", "frontend-x", "cache-x"):
            yield Name("Deployment", f"{team}-{part}")
            for _ in range(5):
                yield Name(
                    "Pod", f"{team}-{part}-{drawn.getrandbits(40):010x}-{''.join(drawn.choices('bcdfgh245', k=5))}"
                )
    for number in range(30):
        yield Name("Node", f"ip-10-0-{number}-7.eu-west-1.compute.internal")


Line = Callable[[random.Random, str], str]
_USUAL: tuple[Line, ...] = (
    lambda drawn, _: f"2026-01-01T12:{drawn.randint(10, 59)}:45.123Z INFO handled method=GET path=/v1/items status=200",
    lambda drawn, _: (
        f"ERROR connection to db.internal.acme.com:5432 failed: dial tcp 10.1.{drawn.randint(0, 255)}.7:5432: "
        "connect: connection refused"
    ),
    lambda drawn, pod: f"Back-off restarting failed container app in pod {pod}_cart-ns({_uid(drawn)})",
    lambda _, __: "\tat org.springframework.boot.SpringApplication.run(SpringApplication.java:315) ~[boot.jar!/:2.7.1]",
    lambda drawn, _: (
        f'{{"level":"warn","ts":{drawn.randint(1, 10**9)}.5,"caller":"reconciler/reconciler.go:123","msg":"retrying"}}'
    ),
    lambda _, __: "goroutine 1 [running]: main.main() /go/src/app/main.go:42 +0x1d",
    lambda _, __: "0/3 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }.",
    lambda _, __: "Readiness probe failed: HTTP probe failed with statuscode: 503",
)
_DENSE: tuple[Line, ...] = (
    lambda drawn, pod: f"{pod} uid={_uid(drawn)} password={drawn.getrandbits(60):x}",
    lambda drawn, pod: f"postgres://app:{drawn.getrandbits(60):x}@db{drawn.randint(1, 9999)}.acme.com/{pod}",
    lambda drawn, _: f"10.{drawn.randint(0, 255)}.{drawn.randint(0, 255)}.1 10.0.0.{drawn.randint(0, 255)}",
)


def _uid(drawn: random.Random) -> str:
    return f"123e4567-e89b-12d3-a456-{drawn.getrandbits(48):012x}"


if __name__ == "__main__":
    print(msgspec.json.encode(list(main())).decode())
