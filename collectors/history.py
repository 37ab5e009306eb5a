"""What was changed in workloads, nodes and whatever else is specified, and when: as it is seen to happen. Pure."""

from collections import OrderedDict
from datetime import datetime, timedelta

from collectors.differences import differences
from collectors.index import Key
from kubewhy.kube.meta import Object, WrittenMeta
from kubewhy.records import Change, Ref, Sort

# A failure may begin half an hour after what brought it about, and be held back for an hour more.
KEPT = timedelta(minutes=90)
# A controller acts on a write within this time, so that both are one change.
AT_ONCE = timedelta(seconds=10)
_OF_A_SORT = 2
_LONGEST = 500


class History:
    """The last changes of each sort of each object, for as long as they matter."""

    def __init__(self) -> None:
        self._noted: OrderedDict[Key, tuple[datetime, list[Change]]] = OrderedDict()
        self.stated: dict[Key, tuple[Change, ...]] = {}  # what objects say by themselves, until they are otherwise

    def saw(self, key: Key, old: Object, new: Object, at: datetime) -> None:
        """An object was one way and is another."""
        for sort, what in differences(old, new):
            self._note(key, change(new, _written(old, new) or at, sort, what), at)

    def of(self, key: Key) -> list[Change]:
        """What was seen, the newest first."""
        _, noted = self._noted.get(key, (None, []))
        return noted

    def forget(self, key: Key) -> None:
        """It is gone."""
        self._noted.pop(key, None)

    def _note(self, key: Key, change: Change, now: datetime) -> None:
        _, known = self._noted.pop(key, (now, []))
        alike = [each for each in known if each.sort == change.sort]
        noted = [change, *(each for each in known if each not in alike[_OF_A_SORT - 1 :])]
        self._noted[key] = now, sorted(noted, key=lambda each: each.at, reverse=True)
        while self._noted and now - next(iter(self._noted.values()))[0] > KEPT:
            self._noted.popitem(last=False)


def change(subject: Object, at: datetime, sort: Sort, what: str) -> Change:
    """That this was done to it."""
    told = what if len(what) <= _LONGEST else what[: _LONGEST - 3] + "..."
    return Change(object=Ref.to(subject), at=at, sort=sort, what=told)


def _written(old: Object, new: Object) -> datetime | None:
    """When its managers say that it was: a difference may be seen long after, once a broken watch is mended."""
    if not isinstance(old.metadata, WrittenMeta) or not isinstance(new.metadata, WrittenMeta):
        return None
    return new.metadata.written if new.metadata.written != old.metadata.written else None
