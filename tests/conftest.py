"""What holds for all tests."""

import signal


def pytest_configure() -> None:
    """A shell that starts them in the background has Ctrl-C ignored, and every program that they start would too."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
