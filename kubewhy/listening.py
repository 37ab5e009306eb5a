"""Where a process answers whoever looks after it."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel

_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.%]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")


def _address(text: str) -> str:
    match = _ADDRESS.fullmatch(text)
    if not match or int(match[2]) > 65535:
        raise ValueError("is no address to listen on; write 0.0.0.0:9464, or 127.0.0.1:9464 for this machine alone")
    return text


class MetricsSettings(BaseModel, extra="forbid", frozen=True):
    """Where metrics and health are to be had by HTTP. At port 0, any that is free."""

    listen: Annotated[str, AfterValidator(_address)] = "0.0.0.0:9464"

    @property
    def place(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)
