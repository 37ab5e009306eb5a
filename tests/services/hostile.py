"""Findings whose every text is meant to do harm where it is shown."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec

from kubewhy.glance import STORM
from kubewhy.records import Change, Explanation, Finding, IncidentView, Ref, Seen, Severity, Sort, Told, Words

START = datetime(2026, 1, 1, tzinfo=UTC)

PIECES = (
    "<!channel>", "<!here|here>", "<!everyone>", "<@U0123456789>", "<!subteam^S0123456789>", "<#C0123456789>",
    "@here", "@channel", "@Everyone", "@group", "&lt;!channel&gt;", "&amp;lt;!here&amp;gt;",
    "<http://evil.example|kubectl>", "<https://evil.example>", "https://evil.example/a?b=c&d=<e>",
    "mailto:a@b.example", "`", "``", "```", "````", "*bold*", "_it_", "~no~", "> quoted", ">>> quoted", "\n",
    "\r\n", "\u2028", "\t", "\x00", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\u202e", "\u2066", "\u2069",
    "\u200b", "\u200d", "\ufeff", "\u00ad", "\u2800", "\u3164", "\ufe0f", "שלום עולם", "مرحبا بالعالم",
    "\U0001f525", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea", ":fire:",
    ":white_check_mark:", "z\u0351\u0352\u0353", "{cluster}", "%s", "\\", '"', "'", "&", "<", ">", "&&",
    "<<EOF", "-->", "<b>", "日本語", "\ud800", "registry:5000/a@sha256:0f", "12:30:45", "DATABASE_URL",
    "*.example.com", "~/.ssh", "__init__", "word", "crash", "0", " ", "<!date^1^{date}|x>",
)  # fmt: skip


class Hostile:
    """The same seed gives the same findings."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def findings(self, count: int) -> Iterator[Finding]:
        for number in range(count):
            yield self.finding(number)

    def finding(self, number: int) -> Finding:
        draw = self._random
        digest = draw.random() < 0.05
        resolved = draw.random() < 0.3
        opened = START + timedelta(seconds=draw.randrange(10**6))
        many = 200 if draw.random() < 0.02 else draw.choice((1, 1, 2, 5, 6, 20))
        failures = tuple(self._told(opened) for _ in range(many))
        if digest:
            summary = msgspec.structs.replace(failures[0], rule=STORM)
            failures = (summary, *failures[:5])
        severity = draw.choice(list(Severity))
        incident = IncidentView(
            id=f"{number:016x}",
            cluster=self.text(40),
            title=self.text(3000 if draw.random() < 0.05 else 150),
            severity=severity,
            state="resolved" if resolved else "open",
            root=self._ref(),
            members=tuple(each.object for each in failures[:5]),
            member_count=len(failures),
            opened_at=opened,
            resolved_at=opened + timedelta(seconds=draw.randrange(10**5)) if resolved else None,
            resolution=draw.choice(("recovered", "deleted", "superseded", "silenced")) if resolved else None,
            failures=failures,
            words=tuple(self._words() for _ in range(20 if draw.random() < 0.02 else draw.randrange(4))),
            commands=tuple(self.text(4000 if draw.random() < 0.1 else 100) for _ in range(draw.choice((0, 2, 10)))),
            evidence=tuple(self._seen() for _ in range(draw.choice((0, 1, 6)))),
            changes=tuple(self._change(opened) for _ in range(draw.choice((0, 1, 3)))),
        )
        return Finding(
            id=f"{number:032x}",
            transition="resolved" if resolved else draw.choice(("opened", "updated", "explained", "repeated")),
            at=opened + timedelta(days=2),
            revision=number + 1,
            incident=incident,
            explanation=self._explanation() if draw.random() < 0.4 else None,
            digest="d1" if draw.random() < 0.05 else None,
        )

    def text(self, most: int) -> str:
        """Up to so many characters, which may be none, or none that shows."""
        draw, told = self._random, ""
        length = draw.randrange(most + 1)
        while len(told) < length:
            told += draw.choice(PIECES) * draw.choice((1, 1, 1, 2, 40)) + draw.choice(("", " ", ""))
        return told[:length]

    def _ref(self) -> Ref:
        return Ref(self.text(20), self.text(253), self.text(63) if self._random.random() < 0.8 else None)

    def _told(self, opened: datetime) -> Told:
        draw = self._random
        return Told(
            object=self._ref(),
            rule=self.text(30),
            severity=draw.choice(list(Severity)),
            message=self.text(5000 if draw.random() < 0.05 else 80) if draw.random() < 0.5 else "it crashes",
            since=opened - timedelta(seconds=draw.randrange(10**6)) if draw.random() < 0.5 else None,
            until=None,
            cause=None,
        )

    def _words(self) -> Words:
        docs = self._random.choice(
            ("", "https://kubewhy.dev/rules?a=b&c=d", "javascript:alert(1)", "https://docs.example/" + self.text(800))
        )
        most = 3000 if self._random.random() < 0.1 else 200
        return Words(rule=self.text(30), title=self.text(100), why=self.text(most), look=self.text(most), docs=docs)

    def _seen(self) -> Seen:
        draw = self._random
        lines = tuple(
            self.text(3000 if draw.random() < 0.05 else 80)
            for _ in range(60 if draw.random() < 0.05 else draw.randrange(8))
        )
        return Seen(object=self._ref(), lines=lines)

    def _change(self, opened: datetime) -> Change:
        before = timedelta(seconds=self._random.randrange(1800))
        return Change(object=self._ref(), at=opened - before, sort=Sort.IMAGES, what=self.text(500))

    def _explanation(self) -> Explanation:
        most = self._random.choice((200, 4000))
        return Explanation(
            cause=self.text(most),
            why=self.text(most),
            fix=tuple(self.text(300) for _ in range(self._random.randrange(12))),
            verify=tuple(self.text(400) for _ in range(self._random.randrange(6))),
            confidence="high",
            language="English",
            backend=self.text(63),
            model=self.text(200),
            input_tokens=500,
            output_tokens=100,
            cost=None,
            cached=self._random.random() < 0.5,
        )
