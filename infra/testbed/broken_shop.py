"""Records a shop while it breaks, and while some of it is mended: what `make run` replays where there is no cluster.

python -m infra.testbed.broken_shop FILE takes about eight minutes.
"""

import subprocess
import sys
import time
from pathlib import Path

from infra.testbed.control_plane import ControlPlane
from infra.testbed.scenarios import SHOP, read

_TROUBLES = read(Path(__file__).with_suffix(".yaml"))
_HEALTHY_SECONDS, _BROKEN_SECONDS, _MENDED_SECONDS = 20.0, 200.0, 200.0


def record(plane: ControlPlane, file: Path) -> None:
    """From before anything breaks until some of it is mended."""
    SHOP.play(plane)
    plane.api.wait(
        "/apis/apps/v1/namespaces/shop/statefulsets/db", lambda seen: seen["status"].get("readyReplicas") == 2
    )
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "kubewhy",
        "record",
        "--overwrite",
        "--kubeconfig",
        plane.admin_kubeconfig,
        file,
    ]
    with subprocess.Popen(command) as recorder:
        time.sleep(_HEALTHY_SECONDS)
        for each in _TROUBLES:
            print(f"{each.name}: {each.note}", flush=True)
            each.play(plane)
        time.sleep(_BROKEN_SECONDS)
        secret = {"metadata": {"name": "payment-gateway", "namespace": "checkout"}, "stringData": {"KEY": "none"}}
        plane.api.create({"apiVersion": "v1", "kind": "Secret", **secret})
        # Long enough for it to be told: what is seen no more is kept open for two minutes.
        time.sleep(_MENDED_SECONDS)
        recorder.terminate()
    if recorder.returncode:
        sys.exit(f"kubewhy record ended with status {recorder.returncode}")


if __name__ == "__main__":
    with ControlPlane.start(say=print) as started:
        record(started, Path(sys.argv[1]))
