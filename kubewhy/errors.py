"""The three errors a component may raise; anything else is a bug."""


class ConfigError(Exception):
    """The start cannot go on: something the user gave is wrong. Says what, where, and how to mend it."""


class RetryLater(Exception):
    """This record may succeed later. `after` is in seconds; None leaves the wait to the runtime."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class Rejected(Exception):
    """This record will never succeed: it is set aside, and the next one is taken."""
