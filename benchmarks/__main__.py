"""python -m benchmarks: measures on a real control plane, and prints one table."""

import json
import os
import platform
import sys
from collections.abc import Callable, Iterator

import click

from benchmarks import (
    archiving,
    cluster,
    delivering,
    explaining,
    fleet,
    fleet_latency,
    fleet_scale,
    fleet_sinks,
    folding,
    latency,
    looking,
    masking,
    posting,
    stages,
    watching,
)
from benchmarks.cluster import Bench
from benchmarks.filling import Size
from benchmarks.table import Row, table

BENCHMARKS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "analyze": looking.analyze,
    "stages": stages.stages,
    "folding": folding.folding,
    "masking": masking.masking,
    "explaining": explaining.explaining,
    "archiving": archiving.archiving,
    "delivering": delivering.delivering,
    "posting": posting.posting,
    "collector": watching.collector,
    "latency": latency.latency,
    "fleet": fleet.fleet,
    "fleet-latency": fleet_latency.fleet_latency,
    "fleet-sinks": fleet_sinks.fleet_sinks,
    "fleet-scale": fleet_scale.scale,
}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="A fifth of the pods, and seconds in place of minutes.")
@click.argument("names", nargs=-1, type=click.Choice(list(BENCHMARKS)))
def main(quick: bool, names: tuple[str, ...]) -> None:
    """Measure all of it, or only what is named. Exit status: 1 when a limit is not met.

    A limit is a ratio to a peer that is measured in the same run, or a bound in itself; seconds are only told.
    """
    size = cluster.QUICK if quick else Size()
    rows: list[Row] = []
    with cluster.full(size, quick=quick, say=click.echo) as bench:
        click.echo(_facts(bench))
        for name in names or BENCHMARKS:
            for row in BENCHMARKS[name](bench):
                click.echo(f"  {row.stage}: {row.figure}", err=True)
                rows.append(row)
    click.echo(table(rows))
    sys.exit(any(row.met is False for row in rows))


def _facts(bench: Bench) -> str:
    pods = bench.plane.api.get("/api/v1/pods", limit=100)["items"]
    middle = sorted(len(json.dumps(pod, separators=(",", ":"))) for pod in pods)[len(pods) // 2]
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"kube-apiserver {bench.plane.api.get('/version')['gitVersion']}; "
        f"{bench.size.pods:,} pods of {middle / 1000:.1f} KB, {bench.size.nodes} nodes, {bench.size.apps} services; "
        "no controllers and no kwok"
    )


if __name__ == "__main__":
    main()
