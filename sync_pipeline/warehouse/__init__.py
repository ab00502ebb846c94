"""Speaks SQL: the schema, its migrations, bulk upserts of whole days, and the embedded server."""
