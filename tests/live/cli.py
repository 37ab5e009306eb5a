"""The real console script, run as a person runs it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

KUBEWHY = Path(sys.executable).with_name("kubewhy")


def kubewhy(
    *args: str | Path, status: int = 0, timeout: float = 120, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Runs one command to its end, which must be the one that is expected."""
    done = subprocess.run(
        [KUBEWHY, *args],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
        **options,
    )
    assert done.returncode == status, (done.returncode, done.stdout[-2000:], done.stderr[-2000:])
    return done


def analyze(kubeconfig: Path, *args: str) -> dict[str, Any]:
    """What `kubewhy analyze -o json` prints."""
    told: dict[str, Any] = json.loads(kubewhy("analyze", "--kubeconfig", kubeconfig, "-o", "json", *args).stdout)
    return told
