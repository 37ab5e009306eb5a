"""What is news to people who are told of an incident once when it opens, and once when it is over. Pure."""

import msgspec

from kubewhy.contracts import Memo
from kubewhy.records import Finding, Severity

_TOLD = "told/"


class Known(msgspec.Struct, frozen=True):
    """What they have been told of an incident."""

    revision: int
    severity: Severity


def is_news(memo: Memo, finding: Finding) -> bool:
    """Not what a digest stands for, nor what only changes: but what becomes worse, and what is to be repeated."""
    known = _known(memo, finding)
    if finding.digest or (known and finding.revision <= known.revision):
        return False
    if finding.transition == "resolved":
        return known is not None
    return known is None or finding.transition == "repeated" or finding.incident.severity.rank > known.severity.rank


def may_be_news(finding: Finding) -> bool:
    """What is news whatever they have been told."""
    return not finding.digest and finding.transition in ("opened", "repeated", "resolved")


def told(memo: Memo, finding: Finding) -> None:
    """They know now."""
    known = None
    if finding.transition != "resolved":
        known = msgspec.json.encode(Known(finding.revision, finding.incident.severity))
    memo.put(_TOLD + finding.incident.id, known)


def _known(memo: Memo, finding: Finding) -> Known | None:
    row = memo.get(_TOLD + finding.incident.id)
    return msgspec.json.decode(row, type=Known) if row else None
