"""What leaves the process, pinned: `KUBEWHY_GOLDEN=write` writes these files anew, and a review reads them."""

import os
from pathlib import Path

FOLDER = Path(__file__).parent


def golden(name: str, text: str) -> None:
    """The text is just what the file of that name holds."""
    path = FOLDER / name
    if os.environ.get("KUBEWHY_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{name} differs; if that is meant: KUBEWHY_GOLDEN=write"
