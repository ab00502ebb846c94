"""Tests that start containers. They run with `-m containers`, and need an engine that the client `docker` reaches."""
