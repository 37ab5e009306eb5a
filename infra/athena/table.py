"""The definition of a table for Athena, made from the record that the archive's lines are."""

from typing import Any

from msgspec import inspect

from kubewhy.records import Finding

_SIMPLE: dict[type[inspect.Type], str] = {
    inspect.BoolType: "boolean",
    inspect.DateTimeType: "string",  # in ISO 8601, which Hive's timestamps are not: from_iso8601_timestamp reads it
    inspect.EnumType: "string",
    inspect.FloatType: "double",
    inspect.IntType: "bigint",
    inspect.StrType: "string",
}

_TABLE = """\
-- Generated from the records by `make docs`: do not edit. Write your own bucket, prefix and clusters, as in
--   sed 's|BUCKET/PREFIX/|my-archive/kubewhy/|; s|CLUSTERS|prod,staging|' table.sql
-- and run it in Athena. Partitions need not be added: their names are projected. A cluster is called as its folder is.
CREATE EXTERNAL TABLE kubewhy_findings (
{columns}
)
PARTITIONED BY (`cluster` string, `date` string, `hour` string)
ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe'
WITH SERDEPROPERTIES ('ignore.malformed.json' = 'true')
STORED AS INPUTFORMAT 'org.apache.hadoop.mapred.TextInputFormat'
OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat'
LOCATION 's3://BUCKET/PREFIX/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.cluster.type' = 'enum',
  'projection.cluster.values' = 'CLUSTERS',
  'projection.date.type' = 'date',
  'projection.date.format' = 'yyyy-MM-dd',
  'projection.date.range' = '2025-01-01,NOW+1DAY',
  'projection.date.interval' = '1',
  'projection.date.interval.unit' = 'DAYS',
  'projection.hour.type' = 'integer',
  'projection.hour.range' = '0,23',
  'projection.hour.digits' = '2',
  'storage.location.template' = 's3://BUCKET/PREFIX/cluster=${{cluster}}/date=${{date}}/hour=${{hour}}/'
);
"""


def ddl() -> str:
    """CREATE TABLE, with placeholders for what each has of their own."""
    columns = (f"  `{field.encode_name}` {_type(field.type)}" for field in _fields(Finding))
    return _TABLE.format(columns=",\n".join(columns))


def _fields(record: Any) -> tuple[inspect.Field, ...]:
    told = inspect.type_info(record)
    assert isinstance(told, inspect.StructType)
    return told.fields


def _type(told: inspect.Type) -> str:
    match told:
        case inspect.UnionType(types=types):
            [one] = (each for each in types if not isinstance(each, inspect.NoneType))
            return _type(one)
        case inspect.VarTupleType(item_type=item):
            return f"array<{_type(item)}>"
        case inspect.DictType(value_type=value):
            return f"map<string,{_type(value)}>"
        case inspect.StructType(fields=fields):
            return f"struct<{','.join(f'`{each.encode_name}`:{_type(each.type)}' for each in fields)}>"
    return _SIMPLE[type(told)]
