"""The table and the queries for Athena follow the records."""

import json
import re
from pathlib import Path
from typing import Any

from infra.athena.table import ddl
from kubewhy.records import encode
from sinks.archive import objects, place
from tests.test_docs import records
from tests.test_sink_s3 import letter

FOLDER = Path(__file__).parents[1] / "infra" / "athena"


def columns(declared: str) -> Any:
    """What a type of Hive's declares: a name, a list of one, or fields by name."""
    if found := re.fullmatch("array<(.*)>", declared):
        return [columns(found[1])]
    if found := re.fullmatch("struct<(.*)>", declared):
        return {name: columns(kind) for name, kind in parted(found[1], ":")}
    return declared


def parted(declared: str, mark: str) -> list[tuple[str, str]]:
    """Names and types, at commas that are in no brackets."""
    parts, depth = [""], 0
    for sign in declared:
        depth += (sign == "<") - (sign == ">")
        if sign == "," and not depth:
            parts.append("")
        else:
            parts[-1] += sign
    return [(name.strip(" \n`"), kind.strip()) for name, _, kind in (part.strip().partition(mark) for part in parts)]


def fits(told: Any, declared: Any) -> bool:
    """Whether nothing in that JSON is lost, or of another type."""
    match told, declared:
        case None, _:
            return True
        case dict(), dict():
            return told.keys() == declared.keys() and all(fits(told[name], declared[name]) for name in told)
        case dict(), "map<string,string>":
            return all(isinstance(each, str) for each in told.values())
        case list(), list():
            return all(fits(each, declared[0]) for each in told)
        case bool(), _:
            return bool(declared == "boolean")
        case int(), _:
            return declared in ("bigint", "double")
        case float(), _:
            return bool(declared == "double")
    return isinstance(told, str) and declared == "string"


def table() -> Any:
    declared = re.search(r"findings \((.*?)\n\)\n", ddl(), re.S)
    assert declared
    return {name: columns(kind) for name, kind in parted(declared[1], " ")}


def test_the_table_is_current() -> None:
    assert (FOLDER / "table.sql").read_text() == ddl(), "run `make docs`"


def test_every_finding_fits_the_table() -> None:
    findings = [json.loads(encode(each)) for each in records() if hasattr(each, "transition")]
    assert len(findings) > 1
    assert all(fits(each, table()) for each in findings)
    assert not fits({**findings[0], "surprise": 1}, table())
    assert not fits({**findings[0], "revision": "1"}, table())


def test_the_table_finds_the_objects() -> None:
    found = re.search("'s3://BUCKET/PREFIX/(.*)'\n", ddl())
    assert found
    [each] = objects([letter(1)])
    folder = found[1].replace("${cluster}", "c").replace("${date}", "2026-03-01").replace("${hour}", "12")
    assert each.name.startswith(folder)
    assert place(each.name)


def test_queries_name_what_there_is() -> None:
    text = "\n".join(line for line in (FOLDER / "queries.sql").read_text().splitlines() if not line.startswith("--"))
    paths = set(re.findall(r"\b(?:incident|explanation)(?:\.\w+|\[1\])+", text))
    assert len(paths) > 10
    for path in paths:
        here = table()
        for part in re.findall(r"\w+", path):
            here = here[0] if part == "1" else here[part]
    assert text.count(";") == 4
