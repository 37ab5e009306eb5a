-- Generated from the records by `make docs`: do not edit. Write your own bucket, prefix and clusters, as in
--   sed 's|BUCKET/PREFIX/|my-archive/kubewhy/|; s|CLUSTERS|prod,staging|' table.sql
-- and run it in Athena. Partitions need not be added: their names are projected. A cluster is called as its folder is.
CREATE EXTERNAL TABLE kubewhy_findings (
  `schema` string,
  `id` string,
  `transition` string,
  `at` string,
  `revision` bigint,
  `incident` struct<`id`:string,`cluster`:string,`cluster_name`:string,`title`:string,`severity`:string,`state`:string,`root`:struct<`kind`:string,`name`:string,`namespace`:string,`group`:string>,`members`:array<struct<`kind`:string,`name`:string,`namespace`:string,`group`:string>>,`member_count`:bigint,`opened_at`:string,`resolved_at`:string,`resolution`:string,`failures`:array<struct<`object`:struct<`kind`:string,`name`:string,`namespace`:string,`group`:string>,`rule`:string,`severity`:string,`message`:string,`since`:string,`until`:string,`cause`:struct<`kind`:string,`name`:string,`namespace`:string,`group`:string>,`labels`:map<string,string>>>,`words`:array<struct<`rule`:string,`title`:string,`why`:string,`look`:string,`docs`:string>>,`commands`:array<string>,`evidence`:array<struct<`object`:struct<`kind`:string,`name`:string,`namespace`:string,`group`:string>,`lines`:array<string>>>,`changes`:array<struct<`object`:struct<`kind`:string,`name`:string,`namespace`:string,`group`:string>,`at`:string,`sort`:string,`what`:string>>,`silenced`:boolean>,
  `explanation` struct<`cause`:string,`why`:string,`fix`:array<string>,`verify`:array<string>,`confidence`:string,`language`:string,`backend`:string,`model`:string,`input_tokens`:bigint,`output_tokens`:bigint,`cost`:double,`cached`:boolean>,
  `digest` string
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
  'storage.location.template' = 's3://BUCKET/PREFIX/cluster=${cluster}/date=${date}/hour=${hour}/'
);
