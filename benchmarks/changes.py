"""Changes pods at a steady rate: their statuses, as a kubelet would. As a program of its own: readiness, to and fro."""

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import filling, shop
from infra.testbed.api import STRATEGIC, Api

# These replicas of each application change: they are broken in none.
_REPLICAS = (1, 2, 3, 4)


def at_rate(per_second: float, seconds: float, change: Callable[[int], None]) -> float:
    """Calls `change` with 0, 1, 2 and so on from a few threads. Returns how many there were a second."""
    total = round(per_second * seconds)
    begun = time.perf_counter()
    with ThreadPoolExecutor(8) as threads:
        waiting = []
        for number in range(total):
            time.sleep(max(0.0, begun + number / per_second - time.perf_counter()))
            waiting.append(threads.submit(change, number))
        for each in waiting:
            each.result()
    return total / (time.perf_counter() - begun)


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def what(apps: int, number: int) -> tuple[int, int, bool]:
    """Which application's replica that change is about, and whether it becomes ready: each by turns."""
    lap, place = divmod(number, apps * len(_REPLICAS))
    replica, app = divmod(place, apps)
    return app, _REPLICAS[replica], lap % 2 == 1


def turn(api: Api, apps: int, number: int) -> None:
    """One pod becomes unready, or ready again, which its Deployment and its Service see as well."""
    app, replica, ready = what(apps, number)
    why, at = "" if ready else "ContainersNotReady", now()
    conditions = [shop.condition(kind, ready, why, at) for kind in ("Ready", "ContainersReady")]
    status = {"conditions": conditions, "containerStatuses": [shop.running(ready=ready)]}
    api.patch_status(filling.replica_path(app, replica), {"status": status}, STRATEGIC)


def laps(apps: int, per_second: float, seconds: float) -> float:
    """That many seconds or a little more, so that every pod ends as it began."""
    lap = 2 * apps * len(_REPLICAS) / per_second
    return lap * max(1, round(seconds / lap))


def main(kubeconfig: Path, apps: int, per_second: float, seconds: float) -> None:
    settings = json.loads(kubeconfig.read_text())
    server, token = settings["clusters"][0]["cluster"], settings["users"][0]["user"]["token"]
    api = Api(server["server"], Path(server["certificate-authority"]), token)
    print(at_rate(per_second, seconds, lambda number: turn(api, apps, number)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
