"""What was changed in an object before it failed. Pure."""

from datetime import datetime

import msgspec

from collectors.changes import known
from collectors.index import Key
from collectors.store import Store
from explainer.changing import BEFORE
from kubewhy.cli.report import Name
from kubewhy.kube import GROUPS
from kubewhy.kube.meta import Object
from kubewhy.records import Ref


class Change(msgspec.Struct, frozen=True):
    object: Name
    at: datetime
    what: str


def find(store: Store, ref: Ref) -> Object | None:
    """The object, where it was read."""
    return store.typed(Key(ref.kind, ref.namespace, ref.name)) if GROUPS.get(ref.kind) == ref.group else None


def changes(store: Store, ref: Ref, onset: datetime, until: datetime) -> list[Change]:
    """What was done to the object within half an hour before the onset, or between that and `until`; newest first."""
    if find(store, ref) is None:
        return []
    told = known(store, Key(ref.kind, ref.namespace, ref.name))
    return [Change(Name.of(each.object), each.at, each.what) for each in told if onset - BEFORE <= each.at <= until]
