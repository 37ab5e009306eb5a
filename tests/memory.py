"""A state that lasts as long as the test."""

from collections.abc import Iterator, Mapping


class MemoryState:
    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self.kept.get(key)

    def write(self, rows: Mapping[str, bytes | None]) -> None:
        for key, row in rows.items():
            if row is None:
                self.kept.pop(key, None)
            else:
                self.kept[key] = row

    def scan(self, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        yield from sorted((key, row) for key, row in self.kept.items() if key.startswith(prefix))
