"""Analyzers as a function of AWS Lambda: it is handed evidence from Kafka, and sends reports to Kafka.

Its settings are in the file that KUBEWHY_CONFIG names, and in variables, which come before it.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Mapping
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from analyzers import enabled
from infra.functions.events import Batch, answer, read
from kubewhy import __version__
from kubewhy.errors import ConfigError
from kubewhy.runtime.fleet.batched import Batches
from kubewhy.runtime.fleet.workers import brokers
from kubewhy.settings import load
from kubewhy.topics import EVIDENCE, RESTATED

log = logging.getLogger(__name__)

_RESERVE = 2.0  # seconds of an invocation that are kept to answer in
# What their trouble means is said by us; and which objects rules cannot cope with stands in the dead letters alone.
_QUIET = ("aiokafka", "analyzers", "asyncio", "boto3", "botocore", "urllib3")


class Context(Protocol):
    """As far as it is asked: https://docs.aws.amazon.com/lambda/latest/dg/python-context.html"""

    def get_remaining_time_in_millis(self) -> int: ...


class Bug(Exception):
    """Something that nobody has foreseen. It is tried again, as all that raises."""


class Function:
    """What lives on between invocations: the event loop, and the connections to the brokers in it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        for name in _QUIET:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        path = environ.get("KUBEWHY_CONFIG")
        self._kafka = brokers(load(Path(path) if path else None, environ), environ, "function")
        self._batches = Batches(self._kafka, enabled())
        self._runner = asyncio.Runner()
        self._runner.get_loop().set_exception_handler(_quietly)

    def __call__(self, event: Any, seconds: float) -> dict[str, Any]:
        """Raises ConfigError for what waiting cannot mend."""
        batch = read(event)
        self._check(batch)
        records = list(chain.from_iterable(batch.values()))
        unsent = self._runner.run(self._batches.through(records, seconds))
        return answer(batch, unsent)

    def _check(self, batch: Batch) -> None:
        known = [self._kafka.name(topic) for topic in (EVIDENCE, RESTATED)]
        for topic in {record.topic for records in batch.values() for record in records}.difference(known):
            raise ConfigError(
                f"there is no evidence on topic {topic}: connect the function to {' and '.join(known)}, "
                "or write another kafka.prefix"
            )


@cache
def _function() -> Function:
    return Function(os.environ)


def handler(event: Any, context: Context) -> dict[str, Any]:
    """What the runtime calls. All that it raises makes the whole batch come again."""
    left = context.get_remaining_time_in_millis() / 1000
    try:
        return _function()(event, left - min(_RESERVE, left / 2))
    except ConfigError:
        _tell_briefly()
        raise
    except Exception as error:
        if os.environ.get("KUBEWHY_DEBUG"):
            raise
        _tell_briefly()
        raise Bug(
            f"{type(error).__name__}: this is a bug in kubewhy {__version__}. Please report it to the project's issue "
            "tracker, with the traceback that the variable KUBEWHY_DEBUG=1 shows."
        ) from None


def _tell_briefly() -> None:
    # The runtime puts a traceback to what it logs of an error.
    sys.tracebacklimit = 0


def _quietly(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Of what was given up nobody asks any more what came of it, and it would be logged with a traceback."""
    log.debug("%s", context.get("message"))
