"""What a sink remembers, for as long as the test lasts."""

from collections.abc import Iterator


class MemoryMemo:
    """Kept in place of a state. Its sink may die at a write, before or after it."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.writes = 0
        self.dies_at = 0  # the number of a write that is not done
        self.dies_after = 0  # the number of a write that is done

    def get(self, key: str) -> bytes | None:
        return self.kept.get(key)

    def put(self, key: str, value: bytes | None) -> None:
        self.writes += 1
        if self.writes == self.dies_at:
            raise Died
        if value is None:
            self.kept.pop(key, None)
        else:
            self.kept[key] = value
        if self.writes == self.dies_after:
            raise Died

    def scan(self, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        yield from sorted((key, value) for key, value in self.kept.items() if key.startswith(prefix))


class Died(BaseException):
    """As by kill -9: nothing that is to be done on errors is done."""
