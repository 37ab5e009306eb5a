"""Who gets which partitions, where that is to be otherwise than Kafka's clients have it."""

from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

_VERSION = 0
_HOLDS, _STANDS_BY = b"holds", b""


def all_to_one() -> type[AbstractPartitionAssignor]:
    """All to one member of the group, the one that has them where it is still there. The others stand by.

    A class of its own for each consumer, for it is asked as a class, and has to remember.
    """

    class AllToOne(AbstractPartitionAssignor):  # type: ignore[misc]
        name = "kubewhy-all-to-one"
        holds = False

        @classmethod
        def assign(
            cls, cluster: Any, members: Mapping[str, ConsumerProtocolMemberMetadata]
        ) -> dict[str, ConsumerProtocolMemberAssignment]:
            one = chosen({member: told.user_data for member, told in members.items()})
            topics = {topic for told in members.values() for topic in told.subscription}
            everything = [(topic, sorted(cluster.partitions_for_topic(topic) or ())) for topic in sorted(topics)]
            return {
                member: ConsumerProtocolMemberAssignment(_VERSION, everything if member == one else [], b"")
                for member in members
            }

        @classmethod
        def metadata(cls, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
            return ConsumerProtocolMemberMetadata(_VERSION, list(topics), _HOLDS if cls.holds else _STANDS_BY)

        @classmethod
        def on_assignment(cls, assignment: ConsumerProtocolMemberAssignment) -> None:
            cls.holds = bool(assignment.partitions())

    return AllToOne


def chosen(members: Mapping[str, bytes]) -> str:
    """The one of these, by what each says of itself."""
    return min(members, key=lambda member: (members[member] != _HOLDS, member))
