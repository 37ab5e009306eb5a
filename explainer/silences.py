"""What nobody wants to hear of: silences, which end by themselves, and what objects say of themselves. Pure."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from fnmatch import fnmatchcase

from explainer.matchers import LABEL, NAMESPACE_LABEL, BadMatcher, Matchers, fit, parse_all
from kubewhy.errors import Rejected
from kubewhy.records import Failure, Report, Silence, SilenceChange


class Silences:
    """Those of all clusters that have not ended. `changed` holds the ids of those whose row is to be written."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Silence, Matchers]] = {}
        self._asked_at: datetime | None = None
        self._turns_at: datetime | None = None  # when the next one begins or ends
        self.changed: set[str] = set()

    def __iter__(self) -> Iterator[Silence]:
        return (silence for silence, _ in self._kept.values())

    def get(self, key: str) -> Silence | None:
        """The one of that id."""
        kept = self._kept.get(key)
        return kept[0] if kept else None

    def put(self, change: SilenceChange, now: datetime) -> list[Matchers]:
        """The matchers of what may be silenced now, or no more. Raises Rejected for matchers that are none."""
        silence = change.silence if change.silence and change.silence.ends_at > now else None
        before = self._kept.get(change.id)
        if silence == (before[0] if before else None):
            return []
        if silence:
            try:
                self._keep(silence)
            except BadMatcher as error:
                raise Rejected(f"silence {silence.id}: {error}") from None
        else:
            del self._kept[change.id]
        self.changed.add(change.id)
        self._turns_at = now
        return [kept[1] for kept in (before, self._kept.get(change.id)) if kept]

    def restore(self, silences: Iterable[Silence]) -> None:
        """As it was when those were kept. Raises BadMatcher for what is no silence."""
        for silence in silences:
            self._keep(silence)

    def turn(self, now: datetime) -> list[Matchers]:
        """The matchers of those that have begun or ended since this was last asked. What has ended is forgotten."""
        before, self._asked_at = self._asked_at, now
        if before and (self._turns_at is None or now < self._turns_at):
            return []
        turned = []
        for silence, matchers in list(self._kept.values()):
            if before is None or any(before < time <= now for time in _times(silence)):
                turned.append(matchers)
            if silence.ends_at <= now:
                del self._kept[silence.id]
                self.changed.add(silence.id)
        self._turns_at = min((time for each in self for time in _times(each) if time > now), default=None)
        return turned

    def silence(self, cluster: str, report: Report, failure: Failure, now: datetime) -> bool:
        """Whether nobody wants to hear of that failure."""
        if (report.ignore or report.namespace_ignore) and ignored(report, failure.rule):
            return True
        if not self._kept:
            return False
        labels = labels_of(cluster, report, failure)
        return any(_lasts(silence, now) and fit(matchers, labels) for silence, matchers in self._kept.values())

    def _keep(self, silence: Silence) -> None:
        self._kept[silence.id] = silence, parse_all(silence.matchers)


def _times(silence: Silence) -> list[datetime]:
    return [silence.starts_at, silence.ends_at] if silence.starts_at else [silence.ends_at]


def _lasts(silence: Silence, now: datetime) -> bool:
    return (silence.starts_at is None or silence.starts_at <= now) and now < silence.ends_at


def ignored(report: Report, rule: str) -> bool:
    """Whether the object, or its namespace, says that this rule is not to be told of it: ids, globs or *."""
    texts = (report.ignore, report.namespace_ignore)
    return any(fnmatchcase(rule, glob.strip()) for text in texts for glob in text.split(","))


def labels_of(cluster: str, report: Report, failure: Failure) -> dict[str, str]:
    """What a failure is matched on."""
    ref = report.ref
    return {
        "cluster": cluster,
        "namespace": ref.namespace or "",
        "kind": ref.kind,
        "name": ref.name,
        "rule": failure.rule,
        "severity": str(failure.severity),
        **object_labels(report),
    }


def object_labels(report: Report) -> dict[str, str]:
    """The labels of the object and its namespace, as matchers name them."""
    own = {LABEL + key: value for key, value in report.labels.items()}
    return own | {NAMESPACE_LABEL + key: value for key, value in report.namespace_labels.items()}
