"""Archives on S3 as a table of Amazon Athena."""
