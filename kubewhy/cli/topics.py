"""kubewhy topics: what kubewhy needs on Kafka, made there, and compared with what is there."""

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kubewhy.cli.logs import verbose
from kubewhy.cli.options import FilePath
from kubewhy.errors import ConfigError
from kubewhy.plain import clean
from kubewhy.settings import load
from kubewhy.topics import TOPICS, Topic

if TYPE_CHECKING:
    from kubewhy.runtime.fleet.declaring import Difference, Found
    from kubewhy.runtime.fleet.kafka import Kafka

CONFIG = click.option(
    "--config",
    type=FilePath(),
    metavar="FILE",
    help="Settings in YAML, with `kafka:` in them.  [default: variables as KUBEWHY__KAFKA__SERVERS alone]",
)
OUTPUT = click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)


@click.group("topics", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Make the topics that kubewhy needs on Kafka, and see whether they are as they have to be.

    kubewhy's workers make no topics by themselves, and do not start where one is missing or has another number of
    partitions than the settings say. So that is done once, before the first of them starts:

    \b
    kubewhy topics create --config kubewhy.yaml
    kubewhy topics check --config kubewhy.yaml

    `kafka:` in the settings says where the brokers are, and how topics are made:

    \b
    kafka:
      servers: [kafka-0:9092, kafka-1:9092]
      prefix: kubewhy.     what every name begins with, so that several fleets can share one Kafka
      partitions: 12       how far work can be spread; choose well, for it must never change
      replication: 3       how many brokers have each record
    """


@command.command("create", short_help="Make the topics that are missing.")
@CONFIG
@OUTPUT
@verbose
def create_command(config: Path | None, output: str) -> int:
    """Make the topics that are missing, as kubewhy needs them. Nothing that is there is changed or removed.

    It says in a line each what it made, and what there is that is otherwise than it should be. Run it as often as you
    like: at each upgrade too, for a newer kubewhy may need one more topic.

    Exit status: 0 all topics are there, 1 some are not.
    """
    kafka = _kafka(config)
    made, refused, differing = asyncio.run(_create(kafka))
    if output == "json":
        told = [
            {"topic": name, "made": name in made, "refused": refused.get(name), "differs": differing.get(name, [])}
            for name in map(kafka.name, TOPICS)
        ]
        click.echo(json.dumps(_plainly(told), indent=2))
        return 1 if refused else 0
    for name in made:
        click.echo(f"{name}: made")
    for each in differing.values():
        for difference in each:
            click.echo(clean(str(difference)))
    for reason in dict.fromkeys(refused.values()):
        names = ", ".join(name for name in refused if refused[name] == reason)
        click.echo(f"kubewhy: kafka: cannot make {names}: {clean(reason)}", err=True)
    if not (made or refused or differing):
        click.echo(f"All {len(TOPICS)} topics are there.")
    return 1 if refused else 0


@command.command("check", short_help="Tell what is otherwise than it should be.")
@CONFIG
@OUTPUT
@verbose
def check_command(config: Path | None, output: str) -> int:
    """Tell which topics are missing, and what of the others is otherwise than kubewhy needs it. Nothing is changed.

    \b
    partitions    workers do not start on another number. That of what is kept by cluster must never change: what is
                  said of a cluster would part from what was said before. So either the settings are made to say what
                  is there, or all begins anew under another `prefix`.
    replication   with fewer replicas than the settings say, a broker that is lost may take records with it.
    all else      by the names that Kafka has for it: how long records are kept and how large they may be, whether the
                  newest of each key stays, and whose clock they go by. Each line says what is there, what should be,
                  and the command that mends it.

    Exit status: 0 all is as it should be, 1 something is not.
    """
    kafka = _kafka(config)
    found, differing = asyncio.run(_look(kafka))
    missing = [kafka.name(topic) for topic in TOPICS if kafka.name(topic) not in found]
    status = 1 if missing or differing else 0
    if output == "json":
        told = [_told(kafka, topic, found, differing) for topic in TOPICS]
        click.echo(json.dumps(_plainly(told), indent=2))
        return status
    for name in missing:
        click.echo(f"{name}: is missing: run `kubewhy topics create`")
    for each in differing.values():
        for difference in each:
            click.echo(clean(str(difference)))
    if not status:
        click.echo(f"All {len(TOPICS)} topics are as they should be.")
    return status


async def _create(kafka: "Kafka") -> tuple[list[str], dict[str, str], dict[str, list["Difference"]]]:
    from kubewhy.runtime.fleet.declaring import create

    found, differing = await _look(kafka)
    made, refused = await create(kafka, [topic for topic in TOPICS if kafka.name(topic) not in found])
    return made, refused, differing


async def _look(kafka: "Kafka") -> tuple[dict[str, "Found"], dict[str, list["Difference"]]]:
    from kubewhy.runtime.fleet.declaring import differences, look

    found = await look(kafka)
    differing = {
        name: told
        for topic in TOPICS
        if (name := kafka.name(topic)) in found and (told := list(differences(kafka, topic, found[name])))
    }
    return found, differing


def _kafka(config: Path | None) -> "Kafka":
    settings = load(config).kafka
    if settings is None:
        where = f"{config}: there is" if config else "there is"
        raise ConfigError(
            f"{where} no `kafka:` in the settings: say where the brokers are, as in kafka: {{servers: [kafka:9092]}}"
            + ("" if config else ", and name the file with --config")
        )
    from kubewhy.runtime.fleet.kafka import Kafka

    return Kafka(settings, os.environ, "kubewhy-topics")


def _told(
    kafka: "Kafka", topic: Topic, found: dict[str, "Found"], differing: dict[str, list["Difference"]]
) -> dict[str, Any]:
    name = kafka.name(topic)
    return {
        "topic": name,
        "missing": name not in found,
        "partitions": found[name].partitions if name in found else None,
        "replication": found[name].replication if name in found else None,
        "differs": differing.get(name, []),
    }


def _plainly(told: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the topic's name in each difference once more."""
    return [
        {
            **each,
            "differs": [
                {"what": one.what, "found": one.found, "wanted": one.wanted, "advice": one.advice}
                for one in each["differs"]
            ],
        }
        for each in told
    ]
