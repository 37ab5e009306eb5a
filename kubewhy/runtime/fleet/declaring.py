"""The topics as they are on the brokers, against how they are declared: made, looked at, and asked for."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from aiokafka.admin import NewTopic
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    InvalidReplicationFactorError,
    KafkaError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.admin import DescribeConfigsRequest
from aiokafka.protocol.metadata import MetadataRequest

from kubewhy.errors import ConfigError, RetryLater
from kubewhy.runtime.fleet.kafka import Kafka
from kubewhy.runtime.fleet.reaching import short
from kubewhy.topics import TOPICS, Topic

_IN_SYNC = "min.insync.replicas"  # more of them loses no more
_OF_A_TOPIC = 2  # among that of which Kafka describes the configuration
_AGAIN = 1.0  # seconds later, for brokers hear of a new topic one after the other
_TRIES = 30
_NOT_PERMITTED = (TopicAuthorizationFailedError, ClusterAuthorizationFailedError)


@dataclass(frozen=True)
class Found:
    """A topic as it is. `replication` is that of the partition that has the least."""

    partitions: int
    replication: int
    config: Mapping[str, str]


class Difference(NamedTuple):
    """What of a topic is otherwise than declared. `advice` is how to mend it."""

    topic: str
    what: str  # partitions, replication, or the name that Kafka has for it
    found: str
    wanted: str
    advice: str

    def __str__(self) -> str:
        return f"{self.topic}: {self.what} {self.found}, should be {self.wanted}: {self.advice}"


class Made(NamedTuple):
    """What came of making topics: which were made, and why others were not."""

    topics: list[str]
    refused: dict[str, str]


async def ready(kafka: Kafka, *topics: Topic) -> None:
    """Returns once a broker answers, if the topics are there as declared. Raises ConfigError with what is not so."""
    names = {kafka.name(topic): topic for topic in topics}
    found: dict[str, tuple[int, int]] = {}
    reason, late = "", False
    for _ in range(_TRIES):
        try:
            async with kafka.connected() as connection:
                found = await _partitions(connection, list(names))
        except RetryLater as error:
            reason = str(error)
            await kafka.reached()  # waits, and says so
        else:
            if late or set(names) <= set(found):
                break
            late = True
        await asyncio.sleep(_AGAIN)
    else:
        raise ConfigError(f"kafka: {reason}: try again")
    if missing := [name for name in names if name not in found]:
        raise ConfigError(_absent(kafka, missing))
    for name, topic in names.items():
        if found[name][0] != kafka.partitions(topic):
            raise ConfigError(f"kafka: topic {_difference(kafka, topic, found[name][0])}")


async def look(kafka: Kafka, topics: Sequence[Topic] = TOPICS) -> dict[str, Found]:
    """Those that are there, by name. Raises ConfigError where they cannot be looked at."""
    try:
        async with kafka.connected() as connection:
            counted = await _partitions(connection, [kafka.name(topic) for topic in topics])
            wanted = {kafka.name(topic): declared(kafka, topic) for topic in topics}
            configs = await _configs(connection, {name: wanted[name] for name in counted})
    except RetryLater as error:
        raise ConfigError(f"kafka: {error}") from None
    return {name: Found(*counted[name], configs[name]) for name in counted}


def differences(kafka: Kafka, topic: Topic, found: Found) -> Iterator[Difference]:
    """What is otherwise than declared. Pure."""
    name = kafka.name(topic)
    if found.partitions != kafka.partitions(topic):
        yield _difference(kafka, topic, found.partitions)
    wanted = kafka.settings.replication
    if found.replication < wanted:
        yield Difference(
            name,
            "replication",
            str(found.replication),
            str(wanted),
            "raise it with kafka-reassign-partitions.sh, or lower kafka.replication in the settings",
        )
    for key, value in declared(kafka, topic).items():
        is_so = found.config.get(key, "")
        if is_so == value or (key == _IN_SYNC and is_so.isdecimal() and int(is_so) > int(value)):
            continue
        advice = f"kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config {key}={value}"
        yield Difference(name, key, is_so or "not told", value, advice)


async def create(kafka: Kafka, topics: Sequence[Topic]) -> Made:
    """Makes these, and returns once the brokers know of them. Raises ConfigError where they cannot be asked."""
    if not topics:
        return Made([], {})
    wanted = [
        NewTopic(
            kafka.name(topic),
            kafka.partitions(topic),
            kafka.settings.replication,
            topic_configs=declared(kafka, topic),
        )
        for topic in topics
    ]
    admin = kafka.admin()
    try:
        await admin.start()
        said = (await admin.create_topics(wanted)).topic_errors
    except (KafkaError, OSError, TimeoutError) as error:
        raise ConfigError(f"kafka: the topics cannot be made ({short(error)}): try again") from None
    finally:
        await admin.close()
    made, refused = list[str](), dict[str, str]()
    for name, code, message in said:
        sort = for_code(code)
        if not code:
            made.append(name)
        elif sort is not TopicAlreadyExistsError:  # else someone else was faster
            refused[name] = _refusal(sort, message)
    await _seen(kafka, made)
    return Made(made, refused)


def declared(kafka: Kafka, topic: Topic) -> dict[str, str]:
    """The topic's configuration, with what follows from the settings."""
    # What the brokers say they have must not be lost with one of them.
    return {**topic.config, _IN_SYNC: "2" if kafka.settings.replication > 2 else "1"}


async def _partitions(connection: AIOKafkaConnection, names: list[str]) -> dict[str, tuple[int, int]]:
    """How many there are of those that exist, and how many replicas at the least."""
    # A broker makes what it is asked for and does not have, unless it is told not to: with its own defaults.
    said = await _asked(connection, MetadataRequest(names, allow_auto_topic_creation=False))
    counted = {}
    for code, name, _, partitions in said.topics:
        if for_code(code) is UnknownTopicOrPartitionError:
            continue
        _check(code, f"look at topic {name}")
        counted[name] = (len(partitions), min((len(replicas) for _, _, _, replicas, *_ in partitions), default=0))
    return counted


async def _configs(
    connection: AIOKafkaConnection, wanted: Mapping[str, Mapping[str, str]]
) -> dict[str, dict[str, str]]:
    if not wanted:
        return {}
    asked = [(_OF_A_TOPIC, name, list(config)) for name, config in wanted.items()]
    said = await _asked(connection, DescribeConfigsRequest(asked, include_synonyms=False))
    configs = {}
    for code, _, _, name, entries in said.resources:
        _check(code, f"look at how topic {name} is kept (DescribeConfigs)")
        configs[name] = {key: value or "" for key, value, *_ in entries}
    return configs


async def _asked(connection: AIOKafkaConnection, request: Any) -> Any:
    try:
        return await connection.send(request)
    except TimeoutError:
        raise RetryLater("the broker does not answer") from None
    except KafkaError as error:
        raise RetryLater(f"the broker hangs up ({short(error)})") from None


def _check(code: int, what: str) -> None:
    if not code:
        return
    sort = for_code(code)
    if sort in _NOT_PERMITTED:
        raise ConfigError(f"kafka: we are not permitted to {what}: grant it to the user of kafka.sasl")
    raise RetryLater(f"cannot {what} ({sort.__name__})")


async def _seen(kafka: Kafka, names: list[str]) -> None:
    for _ in range(_TRIES):
        try:
            async with kafka.connected() as connection:
                if set(names) <= set(await _partitions(connection, names)):
                    return
        except RetryLater:
            pass
        await asyncio.sleep(_AGAIN)


def _refusal(sort: type[KafkaError], message: str | None) -> str:
    if sort in _NOT_PERMITTED:
        return "we are not permitted to make topics: grant Create to the user of kafka.sasl"
    said = " ".join((message or sort.__name__).split())[:300].rstrip(".")
    if sort is InvalidReplicationFactorError:
        return f"{said}: write into the settings how many there are to be: kafka.replication"
    return f"the brokers refuse it ({said})"


def _absent(kafka: Kafka, missing: Sequence[str]) -> str:
    what = f"topic {missing[0]} is" if len(missing) == 1 else f"topics {', '.join(missing)} are"
    return f"kafka: {what} missing at {kafka.settings.called}: run `kubewhy topics create --config FILE`"


def _difference(kafka: Kafka, topic: Topic, found: int) -> Difference:
    wanted = kafka.partitions(topic)
    if not topic.spread:
        advice = "it has to have one, for what is on it is read as one: remove the topic, and create it anew"
    elif topic.partitioned == "by the key":
        advice = (
            f"write `partitions: {found}` into kafka; or remove this topic and create it anew, "
            "for what is on it is said again within half an hour"
        )
    else:
        advice = (
            "this number must never change, or what is said of a cluster parts from what was said before: "
            f"write `partitions: {found}` into kafka, or begin anew under another kafka.prefix"
        )
    return Difference(kafka.name(topic), "partitions", str(found), str(wanted), advice)
