"""What live tests share."""

from collections.abc import Iterator

import pytest

from infra.testbed.kafka import Broker, kafka


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One broker for all of a session's tests, so each uses topics and groups of its own, and lets it run."""
    with kafka(tmp_path_factory.mktemp("kafka")) as started:
        yield started
