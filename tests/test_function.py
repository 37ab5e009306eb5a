"""The function of AWS Lambda as AWS documents what it is handed and what it answers, and how it is deployed."""

import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.functions.events import answer, read
from kubewhy.errors import ConfigError
from kubewhy.settings import load
from kubewhy.topics import DEAD_LETTERS, EVIDENCE, FAILURES, RESTATED

ROOT = Path(__file__).parents[1]
FUNCTIONS = ROOT / "infra" / "functions"
TEMPLATE = FUNCTIONS / "template.yaml"

# From the pages that infra/functions/events.py names.
RECORD = {
    "topic": "mytopic",
    "partition": 0,
    "offset": 15,
    "timestamp": 1545084650987,
    "timestampType": "CREATE_TIME",
    "key": "abcDEFghiJKLmnoPQRstuVWXyz1234==",
    "value": "SGVsbG8sIHRoaXMgaXMgYSB0ZXN0Lg==",
    "headers": [{"headerKey": [104, 101, 97, 100, 101, 114, 86, 97, 108, 117, 101]}],
}
SERVERS = (
    "b-2.demo-cluster-1.a1bcde.c1.kafka.us-east-1.amazonaws.com:9092,"
    "b-1.demo-cluster-1.a1bcde.c1.kafka.us-east-1.amazonaws.com:9092"
)
MSK = {
    "eventSource": "aws:kafka",
    "eventSourceArn": "arn:aws:kafka:us-east-1:123456789012:cluster/demo-cluster-1/751d2973-a626-431c-9d4e-d7975eb",
    "bootstrapServers": SERVERS,
    "records": {"mytopic-0": [RECORD]},
}
SELF_MANAGED = {
    "eventSource": "SelfManagedKafka",
    "bootstrapServers": SERVERS,
    "records": {"mytopic-0": [RECORD]},
}


def with_record(**changed: Any) -> dict[str, Any]:
    return {**MSK, "records": {"mytopic-0": [{**RECORD, **changed}]}}


@pytest.mark.parametrize("event", [MSK, SELF_MANAGED])
def test_the_documented_event_is_read(event: dict[str, Any]) -> None:
    [record] = read(event)["mytopic-0"]
    assert (record.topic, record.partition, record.offset, record.timestamp) == ("mytopic", 0, 15, 1545084650987)
    assert record.value == b"Hello, this is a test."
    assert record.key is not None
    assert len(record.key) == 22
    assert record.headers == [("headerKey", b"headerValue")]


def test_bytes_of_headers_may_be_signed() -> None:
    told = [{"a": [-1, -128, 127, 0]}, {"a": [255, 128]}, {"b": []}]
    [record] = read(with_record(headers=told))["mytopic-0"]
    assert record.headers == [("a", b"\xff\x80\x7f\x00"), ("a", b"\xff\x80"), ("b", b"")]


def test_a_key_a_value_and_headers_may_be_missing() -> None:
    [record] = read(with_record(key=None, value=None, headers=[]))["mytopic-0"]
    assert (record.key, record.value, record.headers) == (None, None, [])
    bare = {name: RECORD[name] for name in ("topic", "partition", "offset", "timestamp")}
    [record] = read({**MSK, "records": {"mytopic-0": [bare]}})["mytopic-0"]
    assert (record.key, record.value, record.headers) == (None, None, [])


def test_what_aws_may_add_does_no_harm() -> None:
    told = with_record(valueSchemaMetadata={"dataFormat": "AVRO", "schemaId": "1234"})
    assert read({**told, "new": 1})["mytopic-0"][0].offset == 15


@pytest.mark.parametrize(
    ("event", "where"),
    [
        ({}, "eventSource"),
        (None, "object"),
        ({**MSK, "eventSource": "aws:kinesis"}, "$.eventSource"),
        ({**MSK, "records": [RECORD]}, "$.records"),
        ({**MSK, "records": {"mytopic-0": RECORD}}, "$.records[...]"),
        (with_record(offset="15"), ".offset"),
        (with_record(value="hunter2!"), ".value"),
        (with_record(headers=[{"hunter2": [256]}]), ".headers"),
    ],
)
def test_another_event_is_refused_in_a_line_without_anything_of_its_records(event: Any, where: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(event)
    told = str(refused.value)
    assert where in told
    assert "connect the function to topics of Kafka" in told
    assert "hunter2" not in told
    assert "\n" not in told


def test_all_from_the_first_unsent_record_of_a_partition_on_comes_again() -> None:
    places = {"my-topic-0": [10, 11, 12], "my-topic-1": [5, 6], "my-topic-2": [7, 9, 11]}
    batch = read(
        {
            **MSK,
            "records": {
                name: [{**RECORD, "topic": "my-topic", "partition": int(name[-1]), "offset": each} for each in offsets]
                for name, offsets in places.items()
            },
        }
    )
    unsent = [batch["my-topic-2"][1], batch["my-topic-0"][2], batch["my-topic-0"][1]]
    assert json.loads(json.dumps(answer(batch, unsent))) == {
        "batchItemFailures": [
            {"itemIdentifier": {"partition": "my-topic-0", "offset": 11}},
            {"itemIdentifier": {"partition": "my-topic-0", "offset": 12}},
            {"itemIdentifier": {"partition": "my-topic-2", "offset": 9}},
            {"itemIdentifier": {"partition": "my-topic-2", "offset": 11}},
        ]
    }
    assert answer(batch, []) == {"batchItemFailures": []}


def test_the_template_is_one() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("cfn-lint"), TEMPLATE], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


PARAMETERS = {
    "AWS::Region": "eu-central-1",
    "Cluster": "CLUSTER",
    "Partitions": 12,
    "Prefix": "kubewhy.",
    "Servers": "one:9098,two:9098",
}


def template() -> Any:
    """The template, with parameters put in where they are named."""

    def construct(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> Any:
        if isinstance(node, yaml.SequenceNode):
            items = loader.construct_sequence(node, deep=True)
            return filled(items[0]) if tag == "Sub" else items
        assert isinstance(node, yaml.ScalarNode)
        told = str(loader.construct_scalar(node))
        return PARAMETERS.get(told, told) if tag == "Ref" else filled(told)

    def filled(text: str) -> str:
        return re.sub(r"\$\{([\w:]+)\}", lambda named: str(PARAMETERS.get(named[1], named[0])), text)

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", construct)
    return yaml.load(TEMPLATE.read_text(), Loader=Loader)["Resources"]


def test_the_template_goes_by_the_topics_there_are() -> None:
    resources = template()
    assert resources["News"]["Properties"]["Topics"] == [f"kubewhy.{EVIDENCE.name}"]
    assert resources["Restated"]["Properties"]["Topics"] == [f"kubewhy.{RESTATED.name}"]
    policy = resources["Role"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
    allowed = {each["Sid"]: each["Resource"] for each in policy}
    head = "${Head}:topic/${Tail}/kubewhy."
    assert allowed["Read"] == [f"{head}{EVIDENCE.name}", f"{head}{RESTATED.name}"]
    assert allowed["Write"] == [f"{head}{FAILURES.name}", f"{head}{DEAD_LETTERS.name}"]
    for name in ("News", "Restated"):
        mapping = resources[name]["Properties"]
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        group = mapping["AmazonManagedKafkaEventSourceConfig"]["ConsumerGroupId"]
        assert f"/{group}".startswith(allowed["Keep"].removeprefix("${Head}:group/${Tail}").rstrip("*"))


def test_the_variables_of_the_template_are_settings() -> None:
    told = template()["Analyzer"]["Properties"]["Environment"]["Variables"]
    kafka = load(None, {name: str(value) for name, value in told.items()}).kafka
    assert kafka
    assert kafka.servers == ("one:9098", "two:9098")
    assert kafka.tls
    assert kafka.sasl
    assert (kafka.sasl.mechanism, kafka.sasl.region) == ("AWS_MSK_IAM", "eu-central-1")


def test_the_filter_of_the_template_is_json() -> None:
    pattern = template()["News"]["Properties"]["FilterCriteria"][1]["Filters"][0]["Pattern"]
    assert json.loads(pattern.replace("${Clusters}", 'a", "b')) == {"value": {"cluster": ["a", "b"]}}


def test_the_image_has_all_that_the_function_needs() -> None:
    built = (FUNCTIONS / "Dockerfile").read_text()
    [handler] = re.findall(r'^CMD \["(.+)"\]$', built, re.MULTILINE)
    assert handler in (ROOT / "docs" / "functions.md").read_text()
    module, _, name = handler.rpartition(".")
    assert callable(getattr(import_module(module), name))
    copied = [path for line in re.findall(r"^COPY (?!--)(.+) \S+$", built, re.MULTILINE) for path in line.split()]
    assert all((ROOT / path).exists() for path in copied)
    # What was left out is not asked for.
    script = f"import sys, {module}; print([each for each in ('kubernetes', 'faust') if each in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
