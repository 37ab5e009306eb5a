"""The console script: finds the command, and turns every way it can end into an exit status and one clear line."""

import errno
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import click
from click.shell_completion import CompletionItem

from kubewhy import __version__
from kubewhy.cli.logs import log_format, one_line, verbose
from kubewhy.errors import ConfigError
from kubewhy.spelling import hint

# Short helps stand here so that `kubewhy --help` imports no command.
COMMANDS = {
    "analyze": "Tell once what is broken, why, and what to do.",
    "why": "Tell of one object what is wrong with it, and where that comes from.",
    "run": "Watch a cluster, and tell what breaks and what recovers.",
    "worker": "Run one role of a fleet on Kafka.",
    "topics": "Make the topics that a fleet needs on Kafka, and see whether they are as they have to be.",
    "incidents": "List what is broken now, as a running kubewhy remembers it.",
    "explain": "Have a model explain an incident, or show what would leave for it.",
    "archive": "Look into an archive on S3: at any incident, however long ago.",
    "silence": "Keep failures from being told for a while.",
    "sinks": "List where findings go, try one out, or show what it would tell.",
    "dead-letters": "List what no one could use, look at it, and send it again.",
    "backends": "Keep the language models that may be asked for better words.",
    "cache": "List and remove what models have answered before.",
    "record": "Write what is read of a cluster to a file, to be analyzed elsewhere.",
    "rbac": "Print the least permissions that kubewhy needs.",
    "rules": "List everything that can be found to be wrong.",
    "completion": "Print the completion script of a shell.",
}

# What commands that need Kafka are made with, and no others.
_OF_KAFKA = {"aiokafka", "cramjam", "faust", "prometheus_client"}

INTERRUPTED = 130  # 128 + SIGINT, as shells have it

# What writing to a file, a pipe or a terminal fails with. All other input and output is looked after where it happens.
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EAGAIN}


class Commands(click.Group):
    """Each command is the module of its name in `kubewhy.cli`, imported only when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in COMMANDS if find_spec(_module(name))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = import_module(_module(cmd_name)).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word, known = args[0], self.list_commands(ctx)
        if word not in known and not word.startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"no such command {word!r}{hint(word, known)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [CompletionItem(name, help=COMMANDS[name]) for name in names] + options


def _module(name: str) -> str:
    return f"kubewhy.cli.{name.replace('-', '_')}"


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="kubewhy", message="%(prog)s %(version)s")
@log_format
@verbose
def cli() -> None:
    """What is broken in your Kubernetes clusters, why, and what to do.

    It only ever reads. Exit status: 0 it ran, 1 it could not, 2 wrong usage, 3 what --fail-on asks for was found.
    """


def kubectl_why() -> None:
    """`kubewhy why` as kubectl finds it: as a plugin named kubectl-why, which is run for `kubectl why`."""
    main(["why", *sys.argv[1:]], program="kubectl", name="kubectl why")


def main(args: Sequence[str] | None = None, *, program: str = "kubewhy", name: str = "kubewhy") -> None:
    """Runs one command and exits. A command that returns a number exits with it.

    Usage is told of the `program`, errors by the `name`.
    """
    try:
        _open_streams()
        status = _run(args, program)
        # What is still buffered fails here, where it can be caught, not while the interpreter shuts down.
        sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        status = INTERRUPTED
    except click.ClickException as error:
        _complain(error, name)
        status = error.exit_code
    except ConfigError as error:
        click.echo(f"{name}: {one_line(str(error))}", err=True)
        status = 1
    except OSError as error:
        if error.errno == errno.EPIPE:
            status = _nobody_reads()  # as in `kubewhy rules | head`
        elif error.errno in _UNWRITABLE:
            click.echo(f"{name}: cannot write to standard output ({error.strerror}): the rest is lost", err=True)
            status = _nobody_reads()
        else:
            status = _bug(error, name)
    except ModuleNotFoundError as error:
        status = _lacking(error, name) if error.name in _OF_KAFKA else _bug(error, name)
    except Exception as error:  # noqa: BLE001 - the last resort: one line in place of a traceback
        status = _bug(error, name)
    sys.exit(status)


def _run(args: Sequence[str] | None, program: str) -> int:
    result: Any = cli.main(args, prog_name=program, standalone_mode=False)
    return result if isinstance(result, int) else 0


def _open_streams() -> None:
    """Python has None in place of a stream that was closed from the start."""
    for name, mode in (("stdin", "r"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - for as long as we live
    if sys.stdout is None:
        raise ConfigError("standard output is closed: nothing could be told; send it to /dev/null if that is meant")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What the terminal's encoding does not know is written out.
        sys.stdout.reconfigure(errors="backslashreplace")


def _complain(error: click.ClickException, name: str) -> None:
    """One line, unless it is the help that one gets who gives no command."""
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
        error.show()
        return
    said = error.format_message().rstrip(".").replace("\n\t", " ")  # as click lists choices
    context = error.ctx if isinstance(error, click.UsageError) else None
    more = f" (see {context.command_path} --help)" if context else ""
    click.echo(f"{name}: {one_line(said[:1].lower() + said[1:])}{more}", err=True)


def _nobody_reads() -> int:
    """What is still buffered would fail once more when the interpreter flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _lacking(error: ModuleNotFoundError, name: str) -> int:
    click.echo(
        f"{name}: Kafka needs a package that is not there ({error.name}): pip install 'kubewhy[kafka]'", err=True
    )
    return 1


def _bug(error: Exception, name: str) -> int:
    if os.environ.get("KUBEWHY_DEBUG"):
        raise error
    sort = type(error).__name__
    click.echo(
        f"{name}: {sort}: this is a bug in kubewhy {__version__}. Please report it to the project's issue tracker, "
        "with the traceback that KUBEWHY_DEBUG=1 shows.",
        err=True,
    )
    return 1
