"""Records a shop while it breaks, and while some of it is mended: what `make run` replays where there is no cluster.

python -m infra.testbed.broken_shop FILE takes about nine minutes.
"""

import subprocess
import sys
import time
from pathlib import Path

from infra.testbed.control_plane import ControlPlane
from infra.testbed.nodes import PLAY
from infra.testbed.scenarios import SHOP, read

_TROUBLES = read(Path(__file__).with_suffix(".yaml"))
_HEALTHY_SECONDS, _LAST_SECONDS = 20.0, 60.0
# Away for longer than the hold, and back for less than anything is kept open.
_FLAPS, _AWAY_SECONDS, _BACK_SECONDS = 3, 75.0, 45.0


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
        for flap in range(_FLAPS):
            if flap == _FLAPS - 1:
                _make_secret(plane)
            _let_all_play(plane, "recommendations", "readiness-lost")
            time.sleep(_AWAY_SECONDS)
            _let_all_play(plane, "recommendations", "run")
            time.sleep(_BACK_SECONDS)
        time.sleep(_LAST_SECONDS)
        recorder.terminate()
    if recorder.returncode:
        sys.exit(f"kubewhy record ended with status {recorder.returncode}")


def _make_secret(plane: ControlPlane) -> None:
    secret = {"metadata": {"name": "payment-gateway", "namespace": "checkout"}, "stringData": {"KEY": "none"}}
    plane.api.create({"apiVersion": "v1", "kind": "Secret", **secret})


def _let_all_play(plane: ControlPlane, namespace: str, play: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    for pod in plane.api.list(path):
        plane.api.patch(f"{path}/{pod['metadata']['name']}", {"metadata": {"labels": {PLAY: play}}})


if __name__ == "__main__":
    with ControlPlane.start(say=print) as started:
        record(started, Path(sys.argv[1]))
