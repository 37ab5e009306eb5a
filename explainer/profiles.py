"""How patient to be: how long a failure must last before anyone is told, and how long it stays open afterwards."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

_QUARTER = timedelta(minutes=15)

# The `for` of the alerts that fire for the same: https://github.com/kubernetes-monitoring/kubernetes-mixin, alerts/.
_MIXIN = {
    # KubePodCrashLooping
    "pod-crash-looping": _QUARTER,
    # KubePodNotReady: pods that are pending for whatever reason, and those that run without being ready
    "pod-config-missing": _QUARTER,
    "pod-container-start": _QUARTER,
    "pod-image-name-invalid": _QUARTER,
    "pod-image-pull": _QUARTER,
    "pod-init-stuck": _QUARTER,
    "pod-node-lost": _QUARTER,
    "pod-not-ready": _QUARTER,
    "pod-not-scheduled": _QUARTER,
    "pod-readiness-gate": _QUARTER,
    "pod-sandbox": _QUARTER,
    "pod-service-account-missing": _QUARTER,
    "pod-start-stuck": _QUARTER,
    "pod-unschedulable": _QUARTER,
    "pod-volume-attach": _QUARTER,
    "pod-volume-mount": _QUARTER,
    # KubeDeploymentReplicasMismatch, KubeDeploymentRolloutStuck, KubeDeploymentGenerationMismatch
    "deployment-creation-refused": _QUARTER,
    "deployment-replicas-short": _QUARTER,
    "deployment-rollout-stuck": _QUARTER,
    "deployment-stale": _QUARTER,
    "deployment-unavailable": _QUARTER,
    # KubeStatefulSetReplicasMismatch, KubeStatefulSetUpdateNotRolledOut
    "statefulset-creation-refused": _QUARTER,
    "statefulset-replicas-short": _QUARTER,
    "statefulset-update-stuck": _QUARTER,
    # KubeDaemonSetRolloutStuck, KubeDaemonSetMisScheduled
    "daemonset-creation-refused": _QUARTER,
    "daemonset-misscheduled": _QUARTER,
    "daemonset-ready-short": _QUARTER,
    # KubeJobFailed
    "cronjob-job-failed": _QUARTER,
    "job-failed": _QUARTER,
    # KubeNodeNotReady, KubeNodePressure
    "node-not-ready": _QUARTER,
    "node-pressure": timedelta(minutes=10),
}


@dataclass(frozen=True)
class Profile:
    """`holds` stand in for the rules' own."""

    keep_open: timedelta
    holds: Mapping[str, timedelta] = field(default_factory=dict)


PROFILES = {
    "fast": Profile(timedelta(minutes=2)),
    "mixin": Profile(timedelta(minutes=5), _MIXIN),
}
