"""All plays by name: the value of a pod's label kubewhy.dev/play. Each module names the source it follows."""

from infra.testbed.kubelet.player import Play
from infra.testbed.kubelet.plays import crashing, images, node_trouble, probes, references, starting

PLAYS: dict[str, Play] = {
    "run": starting.run,
    "slow-start": starting.slow_start,
    "readiness-gate": starting.readiness_gate,
    # Runs like any other, but no stage lets it end.
    "stuck-terminating": starting.run,
    "complete": crashing.crash(0),
    "job-fail": crashing.crash(1),
    "crash": crashing.crash(1),
    "crash-running": crashing.crash_running,
    "exit-0": crashing.crash(0),
    "exit-2": crashing.crash(2),
    "exit-126": crashing.crash(126),
    "exit-127": crashing.crash(127),
    "exit-137": crashing.crash(137),
    "exit-139": crashing.crash(139),
    "exit-143": crashing.crash(143),
    "start-error": crashing.start_error,
    "hook-error": crashing.hook_error,
    "oom": crashing.oom,
    "oom-loop": crashing.crash(137, "OOMKilled"),
    "init-crash": crashing.init_crash,
    "init-stuck": crashing.init_stuck,
    "image-missing": images.missing,
    "image-denied": images.denied,
    "image-never": images.never_present,
    "invalid-image-name": images.invalid_name,
    "create-config-error": references.config_error,
    "mount-failed": references.mount_failed,
    "mount-refused": node_trouble.mount_refused,
    "attach-failed": node_trouble.attach_failed,
    "sandbox-failed": node_trouble.sandbox_failed,
    "evicted": node_trouble.evicted,
    "rejected": node_trouble.rejected,
    "resize-infeasible": node_trouble.resize_infeasible,
    "readiness-fails": probes.readiness,
    "readiness-lost": probes.readiness_lost,
    "readiness-flaps": probes.readiness_flaps,
    "liveness-fails": probes.liveness,
    "startup-fails": probes.startup,
}

# Nobody touches a pod that plays this: its status is what a test writes.
STILL = "still"
