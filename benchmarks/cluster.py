"""The cluster that is measured against: full, and as still as nothing but etcd and an API server can be."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks import filling, programs
from benchmarks.filling import Size
from infra.testbed.build import Say
from infra.testbed.control_plane import ControlPlane

READER = "kubewhy"  # the user under which everything of ours reads
QUICK = Size(pods=2_000, nodes=20, lone=80)


@dataclass(frozen=True)
class Bench:
    """What a benchmark is given. Times are in seconds."""

    plane: ControlPlane
    size: Size
    runs: int  # of whole commands
    seconds: float  # how long a load lasts
    steady: float  # how long the API server's log is read for

    @cached_property
    def reader(self) -> Path:
        """The kubeconfig of a user with no more rights than `kubewhy rbac` prints."""
        return self.plane.kubeconfig(READER)


@contextmanager
def full(size: Size, *, quick: bool, say: Say) -> Iterator[Bench]:
    """Started and filled. Controllers and kwok are not even started, so that nothing but the benchmarks writes."""
    with ControlPlane.start(controllers=False, say=say) as plane:
        filling.fill(plane, size)
        role = programs.run(programs.python("kubewhy", "rbac")).output.decode()
        plane.api.apply(role)
        plane.api.apply(_binding())
        runs, seconds, steady = (3, 15.0, 20.0) if quick else (7, 60.0, 330.0)
        yield Bench(plane, size, runs, seconds, steady)


def _binding() -> dict[str, object]:
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": READER},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "kubewhy"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": READER}],
    }
