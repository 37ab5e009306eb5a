"""What judges evidence: one file a kind, listed here by hand. Others come in by the entry point `kubewhy.analyzers`."""

from importlib.metadata import entry_points
from typing import Any

from analyzers import (
    cron_job,
    daemon_set,
    deployment,
    job,
    node,
    persistent_volume_claim,
    pod,
    replica_set,
    service,
    stateful_set,
)
from kubewhy.contracts import Analyzer
from kubewhy.errors import ConfigError

ANALYZERS: tuple[Analyzer[Any], ...] = (
    cron_job.ANALYZER,
    daemon_set.ANALYZER,
    deployment.ANALYZER,
    job.ANALYZER,
    node.ANALYZER,
    persistent_volume_claim.ANALYZER,
    pod.ANALYZER,
    replica_set.ANALYZER,
    service.ANALYZER,
    stateful_set.ANALYZER,
)


def enabled() -> tuple[Analyzer[Any], ...]:
    """Our own analyzers, then those of installed packages. Raises ConfigError when one cannot be loaded."""
    found = list(ANALYZERS)
    for point in entry_points(group="kubewhy.analyzers"):
        try:
            found.append(point.load())
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"analyzer {point.name}: cannot load {point.value} ({error}); mend or uninstall it"
            ) from None
    return tuple(found)
