"""kubewhy record: writes what is read of a cluster to a file."""

import asyncio
from pathlib import Path

import click

from analyzers import enabled
from collectors.credentials import connect
from collectors.recorded import SCHEMA, Header, Recorder
from collectors.store import kinds_read
from collectors.watching import Watching
from kubewhy import __version__
from kubewhy.cli.logs import one_line
from kubewhy.cli.options import FilePath, Seconds, cluster_options, scope_options
from kubewhy.cli.stopping import until_stopped
from kubewhy.errors import ConfigError


@click.command("record")
@cluster_options
@scope_options
@click.option(
    "--for",
    "seconds",
    type=Seconds(min=0),
    metavar="SECONDS",
    help="End so long after everything has been listed; 0 records one state.  [default: until Ctrl-C]",
)
@click.option("--raw", is_flag=True, help="Keep whole objects, with all that is in them, in place of declared fields.")
@click.option("--overwrite", is_flag=True, help="Replace FILE if it is there.")
@click.argument("file", type=FilePath())
def command(
    kubeconfig: Path | None,
    context: str | None,
    namespaces: tuple[str, ...],
    all_namespaces: bool,
    seconds: float | None,
    raw: bool,
    overwrite: bool,
    file: Path,
) -> None:
    """Write what is read of a cluster to FILE, with its timing, until Ctrl-C, SIGTERM or --for.

    Other commands take it with --from. It has only the fields that rules read, and is readable by its owner alone.

    \b
    kubewhy record shop.kwrec            watch until Ctrl-C
    kubewhy record --for 0 now.kwrec     what is there now
    """
    asyncio.run(
        until_stopped(
            _record(
                str(kubeconfig) if kubeconfig else None,
                context,
                namespaces,
                all_namespaces,
                seconds,
                raw,
                overwrite,
                file,
            )
        )
    )


async def _settle(watching: Watching, recorder: Recorder) -> None:
    try:
        await watching.settle()
    except ConfigError:
        recorder.discard()
        raise


async def _record(
    kubeconfig: str | None,
    context: str | None,
    namespaces: tuple[str, ...],
    all_namespaces: bool,
    seconds: float | None,
    raw: bool,
    overwrite: bool,
    file: Path,
) -> None:
    async with await connect(kubeconfig, context) as cluster:
        identity, server = await cluster.identify(), await cluster.server_version()
        header = Header(schema=SCHEMA, kubewhy=__version__, cluster=identity, name=cluster.name, server=server, raw=raw)
        with Recorder(file, header, overwrite=overwrite) as recorder:
            watching = Watching(
                cluster,
                kinds_read(enabled()),
                namespaces,
                [recorder],
                all_namespaces=all_namespaces,
                on_raw=recorder.on_raw if raw else None,
            )
            loop = asyncio.get_running_loop()
            try:
                await _settle(watching, recorder)
                ending = "Ctrl-C ends it" if seconds is None else f"for {seconds:g} s"
                told = f"recording {cluster.name} ({cluster.server}) to {file}; {ending}"
                click.echo(one_line(told), err=True)
                ends = None if seconds is None else loop.time() + seconds
                while ends is None or loop.time() < ends:
                    await watching.wait(1.0 if ends is None else min(1.0, ends - loop.time()))
            finally:
                await watching.close()
                recorder.close(cluster.now())
