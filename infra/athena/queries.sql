-- Questions to an archive, for Athena. The first line of each says what it answers; narrow cluster and date, for only
-- what is read is paid. A transition that came twice is counted once, by its id.

-- How is each incident of the last week now, or how was it in the end?
SELECT cluster, incident.title, incident.severity, incident.state, incident.resolution,
       from_iso8601_timestamp(incident.opened_at) AS opened, from_iso8601_timestamp(incident.resolved_at) AS resolved
FROM (
  SELECT cluster, incident, row_number() OVER (PARTITION BY incident.id ORDER BY revision DESC) AS age
  FROM kubewhy_findings
  WHERE "date" >= date_format(current_date - INTERVAL '7' DAY, '%Y-%m-%d')
)
WHERE age = 1 AND NOT incident.silenced
ORDER BY opened DESC;

-- Which rules were broken most in the last 30 days, in which namespaces, and how long did it take until all was well?
SELECT incident.words[1].rule AS rule, incident.root.namespace AS namespace, count(DISTINCT incident.id) AS incidents,
       avg(date_diff('minute', from_iso8601_timestamp(incident.opened_at),
                     from_iso8601_timestamp(incident.resolved_at))) AS minutes
FROM kubewhy_findings
WHERE "date" >= date_format(current_date - INTERVAL '30' DAY, '%Y-%m-%d')
  AND transition = 'resolved' AND incident.resolution = 'recovered' AND cardinality(incident.words) > 0
GROUP BY 1, 2
ORDER BY incidents DESC
LIMIT 20;

-- What did models cost in the last 30 days, day by day?
SELECT "date", explanation.backend, explanation.model, count(*) AS explained, sum(explanation.cost) AS dollars,
       sum(explanation.input_tokens + explanation.output_tokens) AS tokens
FROM (
  SELECT "date", explanation, row_number() OVER (PARTITION BY id) AS copy
  FROM kubewhy_findings
  WHERE "date" >= date_format(current_date - INTERVAL '30' DAY, '%Y-%m-%d') AND transition = 'explained'
)
WHERE copy = 1 AND NOT explanation.cached
GROUP BY 1, 2, 3
ORDER BY 1 DESC;

-- What happened to one incident, in order?
SELECT DISTINCT revision, at, transition, incident.severity, incident.state, incident.member_count
FROM kubewhy_findings
WHERE incident.id = 'INCIDENT' AND "date" >= '2026-01-01'
ORDER BY revision;
