"""What of an object's specification was changed, in words that say how it was before. Pure."""

from collections.abc import Iterable, Iterator
from typing import Any

from kubewhy.kube.apps import DaemonSet, Deployment, ReplicaSet, StatefulSet
from kubewhy.kube.batch import CronJob, Job
from kubewhy.kube.core import Node, PersistentVolumeClaim, Service, Taint
from kubewhy.kube.meta import Object
from kubewhy.records import Sort

_SHOWN = 5  # containers
_KINDS = (Deployment, StatefulSet, DaemonSet, ReplicaSet, CronJob, Job, Service, PersistentVolumeClaim)
# Where a controller makes these, it is that which was changed.
_MADE = (ReplicaSet, Job)
# What a controller fills in by itself once the object is there.
_FILLED_IN = {"volumeName", "storageClassName", "clusterIP"}
# The node's own controllers set these, for what is wrong with it already or as the word of a cordon.
_CONTROLLERS_OWN = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/")


def differences(old: Object, new: Object) -> Iterator[tuple[Sort, str]]:
    """Which sort of change it was, and the words. Nothing where only time has passed."""
    if isinstance(old, Node) and isinstance(new, Node):
        if told := "; ".join(_of_node(old, new)):
            yield Sort.SPECIFICATION, told
    elif isinstance(old, _KINDS) and type(old) is type(new) and not (isinstance(new, _MADE) and new.controller):
        yield from _of_specification(old, new)


def _of_specification(old: Any, new: Any) -> Iterator[tuple[Sort, str]]:
    before, after = old.metadata.generation, new.metadata.generation
    if before == after and (after or old.spec == new.spec):  # not all kinds count their generations
        return
    told = images(_pods(old), _pods(new))
    if told:
        yield Sort.IMAGES, told
    few, many = (getattr(each.spec, "replicas", None) for each in (old, new))
    if few != many:
        yield Sort.REPLICAS, f"replicas: {few} -> {many}"
    elif not told and (told := _other(old, new)):
        yield Sort.SPECIFICATION, told


def images(old: Any, new: Any) -> str:
    """By what the containers of two pod specifications differ; empty where nothing of it is told."""
    before, after = (
        {each.name: each.image for each in (*spec.init_containers, *spec.containers)} if spec else {}
        for spec in (old, new)
    )
    told = [
        f"image of container {name}: {before[name]} -> {image}"
        for name, image in after.items()
        if name in before and before[name] != image
    ]
    told += [f"container {name} with image {image} is new" for name, image in after.items() if name not in before]
    told += [f"container {name} is no more" for name in before if name not in after]
    more = len(told) - _SHOWN
    return "; ".join([*told[:_SHOWN], *([f"and {more} more"] if more > 0 else [])])


def _pods(workload: Any) -> Any:
    """What its pods are made from, as far as that is read."""
    spec = workload.spec.job_template.spec if isinstance(workload, CronJob) else workload.spec
    return getattr(getattr(spec, "template", None), "spec", None)


def _other(old: Any, new: Any) -> str:
    """Fields of the specification that are read and differ; else its generation alone tells."""
    names = zip(new.spec.__struct_fields__, new.spec.__struct_encode_fields__, strict=True)
    fields = [told for own, told in names if getattr(old.spec, own) != getattr(new.spec, own)]
    changed = [each for each in fields if each not in _FILLED_IN]
    generation = new.metadata.generation
    count = f" (generation {generation})" if generation else ""
    if changed:
        return f"its specification: {', '.join(changed)}{count}"
    return "" if fields else f"its specification{count}"


def _of_node(old: Node, new: Node) -> Iterator[str]:
    if old.spec.unschedulable != new.spec.unschedulable:
        yield "it was cordoned" if new.spec.unschedulable else "it was uncordoned"
    before, after = _taints(old.spec.taints), _taints(new.spec.taints)
    yield from (f"taint {each} was added" for each in after if each not in before)
    yield from (f"taint {each} was removed" for each in before if each not in after)
    versions = [each.status.node_info.kubelet_version for each in (old, new)]
    if all(versions) and versions[0] != versions[1]:
        yield f"its kubelet: {versions[0]} -> {versions[1]}"


def _taints(taints: Iterable[Taint]) -> list[str]:
    """As kubectl writes them, without those that come with what the node's conditions say."""
    told = [each for each in taints if not each.key.startswith(_CONTROLLERS_OWN)]
    return [f"{each.key}{f'={each.value}' if each.value else ''}:{each.effect}" for each in told]
