"""Typed Kubernetes objects: only the fields that somebody reads."""

from kubewhy.kube.apps import DaemonSet, Deployment, ReplicaSet, StatefulSet
from kubewhy.kube.batch import CronJob, Job
from kubewhy.kube.core import Event, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, Service
from kubewhy.kube.discovery import EndpointSlice
from kubewhy.kube.meta import Object
from kubewhy.kube.storage import StorageClass

# The fullest class of each kind: what the collector decodes and keeps. A view of the kind reads a part of it.
KINDS: tuple[type[Object], ...] = (
    CronJob,
    DaemonSet,
    Deployment,
    EndpointSlice,
    Event,
    Job,
    Namespace,
    Node,
    PersistentVolume,
    PersistentVolumeClaim,
    Pod,
    ReplicaSet,
    Service,
    StatefulSet,
    StorageClass,
)

GROUPS = {kind.resource.kind: kind.resource.group for kind in KINDS}
