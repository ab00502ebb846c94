"""Every use of a private Dagster name, each with its reason."""
