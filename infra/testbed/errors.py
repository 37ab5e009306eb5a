"""What goes wrong outside this code: a build, a start, a request. Each is one line that a person can act on."""

import json


class TestbedError(Exception):
    """The base of all: catch it to print it."""

    # pytest would otherwise take the name for a class of tests.
    __test__ = False


class ApiError(TestbedError):
    """The API server said no."""

    def __init__(self, told: str, status: int, reason: str, message: str) -> None:
        super().__init__(told)
        self.status = status
        self.reason = reason
        self.message = message

    @classmethod
    def of(cls, method: str, path: str, status: int, body: bytes) -> "ApiError":
        try:
            answer = json.loads(body)
            reason, message = answer.get("reason", ""), answer.get("message", "")
        except (ValueError, AttributeError):
            reason, message = "", body.decode(errors="replace")[:300]
        sort = NotFound if status == 404 else cls
        return sort(f"{method} {path}: HTTP {status} {message}", status, reason, message)


class NotFound(ApiError):
    """There is no such object, or no such kind."""
