"""Dagster's webserver with authentication, authorization and an audit log."""
