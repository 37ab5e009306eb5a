"""Pages people, by services that have incidents of their own: the same key opens, and later ends, what is one."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from kubewhy.contracts import Letter, Manner, Memo
from kubewhy.records import Finding
from sinks.news import is_news, may_be_news, told
from sinks.posting import Poster
from sinks.stdout import pretty

KEY = "routing_key"  # a secret within a body


class Page(NamedTuple):
    """What is posted, and to which path."""

    path: str
    body: dict[str, Any]


class PagingSink:
    """Nothing is seen twice: the far side knows what it has by its key."""

    manner = Manner(at_most=1)

    def __init__(self, poster: Poster, render: Callable[[Finding], Page]) -> None:
        self._poster = poster
        self._render = render

    async def send(self, letters: Sequence[Letter], memo: Memo) -> None:
        """Returns once all are taken."""
        for letter in letters:
            if is_news(memo, letter.finding):
                page = self._render(letter.finding)
                await self._poster.post(msgspec.json.encode(page.body), {}, page.path)
                told(memo, letter.finding)

    def preview(self, finding: Finding) -> str:
        """What would be posted, but for the key."""
        if not may_be_news(finding):
            return ""
        page = self._render(finding)
        return f"POST {page.path}\n{pretty({name: told for name, told in page.body.items() if name != KEY})}"

    async def spare(self, memo: Memo) -> bool:
        """Nothing is put off."""
        return False

    async def close(self) -> None:
        """Ends its connections."""
        await self._poster.close()
