"""Log lines on stderr: one line each, as text or JSON, with what was given as `extra` after the message."""

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click

# What a LogRecord holds of its own; everything else on it came in as `extra`.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

# Vendors' libraries would log prompts, session keys and tracebacks. What their errors mean, backends say.
_QUIET = ("anthropic", "azure", "boto3", "botocore", "google", "google_genai", "keyring", "msal", "openai", "urllib3")

# Theirs tell what is done, and of trouble that is over in a moment; what goes on is told by us. -vv shows all but the
# bytes of each request, among which are passwords.
_CHATTY = {"aiokafka": logging.NOTSET, "aiokafka.conn": logging.INFO, "faust": logging.NOTSET, "mode": logging.NOTSET}


class TextFormatter(logging.Formatter):
    """`12:00:01 warning kubewhy.x: message key=value`."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        fields = "".join(f" {key}={_plain(value)}" for key, value in _extra(self, record).items())
        return f"{at} {record.levelname.lower()} {record.name}: {one_line(record.getMessage())}{fields}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: at, level, logger, message, and the extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        return json.dumps({**_extra(self, record), **told}, default=str)


def _extra(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, Any]:
    fields = {key: value for key, value in vars(record).items() if key not in _OWN}
    if record.exc_info:
        fields["traceback"] = formatter.formatException(record.exc_info)
    return fields


def _plain(value: object) -> str:
    text = str(value)
    return text if text.isprintable() and text and not set(text) & set(' "=') else json.dumps(text)


def one_line(text: str) -> str:
    """Whatever would break the line or steer a terminal, written out."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _set_up(context: click.Context, parameter: click.Parameter, value: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if value == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in (*_QUIET, *_CHATTY):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _lower(context: click.Context, parameter: click.Parameter, count: int) -> None:
    if count:
        logging.getLogger().setLevel(logging.DEBUG if count > 1 else logging.INFO)
    if count > 1:
        for name, level in _CHATTY.items():
            logging.getLogger(name).setLevel(level)


def log_format(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--log-format`, which sets logging up."""
    return click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        expose_value=False,
        is_eager=True,
        callback=_set_up,
        help="How log lines on stderr are written.",
    )(command)


def verbose(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `-v`."""
    return click.option(
        "-v",
        "--verbose",
        count=True,
        expose_value=False,
        callback=_lower,
        help="Log what is done, not only warnings; -vv logs every request.",
    )(command)
