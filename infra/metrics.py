"""The reference of all metrics, made from their declarations: `python -m infra.metrics`."""

from kubewhy.runtime.telemetry.families import BUCKETS, Family, Metrics
from kubewhy.runtime.telemetry.metrics import (
    AnalyzerMetrics,
    CollectorMetrics,
    ExplainerMetrics,
    KafkaMetrics,
    ModelMetrics,
    SinkMetrics,
)

_PAGE = """\
# Metrics

With `metrics: {{listen: "0.0.0.0:9464"}}` in the settings, each process of kubewhy answers there by HTTP:

| Path | Answer |
|---|---|
| `/metrics` | What is below, for Prometheus: as OpenMetrics where that is asked for, else as text |
| `/healthz` | 200 while the process turns; 503 once it has hung for 30 seconds, and should be started again |
| `/readyz` | 200 while it does its work, else 503; with each check and, where that fails, the reason, as JSON |

What has to be so for a role to be ready, and what each check is called:

| Role | Checks |
|---|---|
| Every role of a fleet | `kafka`: the brokers answer. They are asked every five seconds |
| A collector | `cluster`: the API server answers; `election`: it is the active one, or stands by |
| An analyzer | `evidence.v1`, `restated.v1`: it has its share of those topics, or stands by |
| An explainer | `silences`: they are known; `incidents`: so is what is remembered of the clusters that are its own |
| A sink | `state`: what it remembers is known, or it stands by |
| `kubewhy run` | `cluster`: all of it that may be read has been listed, and the API server answers |

No label is an object, a namespace or an incident: there are as many series in a large cluster as in a small one.
Clusters are labelled by their ids. Ages are by the clock of the machine that tells them, so one that goes wrong shows.
The buckets of histograms end at {buckets} seconds.
"""


def every() -> dict[str, list[Family]]:
    """All that there are, by whom they are of."""
    metrics = Metrics("all")
    found = {"All roles": list(metrics.families)}
    for title, make in (
        ("A collector", lambda: CollectorMetrics(metrics, "")),
        ("Analyzers", lambda: AnalyzerMetrics(metrics)),
        ("The explainer", lambda: ExplainerMetrics(metrics)),
        ("Asking models", lambda: ModelMetrics(metrics)),
        ("Sinks", lambda: SinkMetrics(metrics)),
        ("Whatever speaks to Kafka", lambda: KafkaMetrics(metrics)),
    ):
        before = len(metrics.families)
        make()
        found[title] = metrics.families[before:]
    return found


def reference() -> str:
    """The page that shows them all, in Markdown."""
    lines = [_PAGE.format(buckets=", ".join(f"{each:g}" for each in BUCKETS))]
    for title, families in every().items():
        lines += [f"## {title}", "", "| Name | Type | Labels | What it says |", "|---|---|---|---|"]
        lines += [f"| `{each.name}` | {each.kind} | {_labels(each)} | {each.says} |" for each in families]
        lines.append("")
    return "\n".join(lines)


def _labels(family: Family) -> str:
    told = (f"`{name}` ({', '.join(values)})" if values else f"`{name}`" for name, values in family.labels.items())
    return ", ".join(told)


if __name__ == "__main__":
    print(reference(), end="")
