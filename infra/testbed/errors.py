"""The one error of the testbed: a line that a person can act on."""


class TestbedError(Exception):
    """Something outside this code failed: a build, a start, a request."""

    # pytest would otherwise take the name for a class of tests.
    __test__ = False
