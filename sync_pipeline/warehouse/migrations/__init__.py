"""Alembic's folder: `env` runs them, `versions` holds one file a change of the schema."""
