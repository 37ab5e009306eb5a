"""The command lines of a control plane, in one place, with the reasons for each unusual setting."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STAGES = Path(__file__).parent / "stages"

# kwok renews a lease after a quarter of its duration: every 3 s. A node is given up after four renewals
# missed, which a busy machine does not do by itself, and a test can still wait for.
LEASE_SECONDS = 12
GRACE_SECONDS = 12

# How long a pod stays bound to a node that is not ready or not reachable. Five minutes on ordinary clusters.
TOLERATION_SECONDS = 20

# Only nodes with this label have a kubelet. Taking it off is pulling the plug.
PLUGGED_IN = "testbed.kubewhy.dev/kubelet"

Command = list[str | Path]


@dataclass(frozen=True)
class Layout:
    """Where the files of one control plane are, and on which ports it listens."""

    directory: Path
    programs: dict[str, Path]
    api_port: int
    etcd_port: int
    peer_port: int
    kubelet_port: int

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.api_port}"

    @property
    def etcd_url(self) -> str:
        return f"http://127.0.0.1:{self.etcd_port}"

    @property
    def keys(self) -> Path:
        return self.directory / "keys"

    @property
    def audit_log(self) -> Path:
        return self.directory / "audit.log"

    def kubeconfig(self, component: str) -> Path:
        return self.directory / f"{component}.kubeconfig"

    def settings(self, name: str, *documents: dict[str, Any]) -> Path:
        """A settings file, rewritten at each start."""
        path = self.directory / name
        path.write_text("\n---\n".join(json.dumps(document, indent=1) for document in documents))
        return path


def etcd(at: Layout) -> Command:
    peers = f"http://127.0.0.1:{at.peer_port}"
    return [
        at.programs["etcd"],
        f"--data-dir={at.directory / 'etcd'}",
        f"--listen-client-urls={at.etcd_url}",
        f"--advertise-client-urls={at.etcd_url}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=default={peers}",
        # Nobody needs this data after a power cut.
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def api_server(at: Layout, *, audit: bool) -> Command:
    command: Command = [
        at.programs["kube-apiserver"],
        f"--etcd-servers={at.etcd_url}",
        "--bind-address=127.0.0.1",
        f"--secure-port={at.api_port}",
        # The endpoints of the service "kubernetes" may not be loopback addresses. This one, kept for
        # documentation, is only ever written down.
        "--advertise-address=192.0.2.1",
        "--service-cluster-ip-range=10.96.0.0/16",
        f"--tls-cert-file={at.keys / 'apiserver.crt'}",
        f"--tls-private-key-file={at.keys / 'apiserver.key'}",
        f"--token-auth-file={at.directory / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-signing-key-file={at.keys / 'service-accounts.key'}",
        f"--service-account-key-file={at.keys / 'service-accounts.pub'}",
        "--allow-privileged=true",
        f"--default-not-ready-toleration-seconds={TOLERATION_SECONDS}",
        f"--default-unreachable-toleration-seconds={TOLERATION_SECONDS}",
        # Where it asks for logs; the names of nodes lead nowhere.
        "--kubelet-preferred-address-types=InternalIP",
        # At its end, do not wait for watches that tests hold open.
        "--shutdown-delay-duration=0s",
    ]
    if audit:
        policy = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]}
        command += [
            f"--audit-policy-file={at.settings('audit-policy.yaml', policy)}",
            f"--audit-log-path={at.audit_log}",
            # A rotated log would hide what a client did before.
            "--audit-log-maxsize=100000",
        ]
    return command


def controller_manager(at: Layout) -> Command:
    return [
        at.programs["kube-controller-manager"],
        f"--kubeconfig={at.kubeconfig('kube-controller-manager')}",
        "--bind-address=127.0.0.1",
        "--secure-port=0",
        "--leader-elect=false",
        # Ten thousand pods should not take minutes for want of permission to ask.
        "--kube-api-qps=1000",
        "--kube-api-burst=2000",
        f"--service-account-private-key-file={at.keys / 'service-accounts.key'}",
        f"--root-ca-file={at.keys / 'ca.crt'}",
        "--node-monitor-period=2s",
        f"--node-monitor-grace-period={GRACE_SECONDS}s",
        "--node-startup-grace-period=30s",
        # With three nodes, two bad ones are a majority; evictions should go on all the same.
        "--unhealthy-zone-threshold=0.99",
        "--node-eviction-rate=10",
        "--pvclaimbinder-sync-period=5s",
        "--horizontal-pod-autoscaler-sync-period=5s",
        "--resource-quota-sync-period=30s",
    ]


def scheduler(at: Layout) -> Command:
    settings = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": {"leaderElect": False},
        "clientConnection": {"kubeconfig": str(at.kubeconfig("kube-scheduler")), "qps": 1000, "burst": 2000},
    }
    return [
        at.programs["kube-scheduler"],
        f"--config={at.settings('scheduler.yaml', settings)}",
        "--bind-address=127.0.0.1",
        "--secure-port=0",
    ]


def kwok(at: Layout) -> Command:
    settings = {
        "apiVersion": "config.kwok.x-k8s.io/v1alpha1",
        "kind": "KwokConfiguration",
        "options": {
            "enableCRDs": [],
            "podPlayStageParallelism": 16,
            "nodePlayStageParallelism": 4,
            "nodeLeaseParallelism": 4,
        },
    }
    return [
        at.programs["kwok"],
        f"--kubeconfig={at.kubeconfig('kwok')}",
        f"--config={at.settings('kwok.yaml', settings)}",
        *(f"--config={stage}" for stage in sorted(STAGES.glob("*.yaml"))),
        f"--manage-nodes-with-label-selector={PLUGGED_IN}",
        f"--node-lease-duration-seconds={LEASE_SECONDS}",
        # The API server asks a node for logs at this address: it must not lead off the machine.
        "--node-ip=127.0.0.1",
        "--cidr=10.64.0.1/16",
    ]
