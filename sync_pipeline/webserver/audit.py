"""Audit log: one JSON object per line on standard output, with the fields of every log line and its own.

Its logger has a handler of its own, so no other line of the process's log comes through it, and every value that a
client sends is inside a JSON string, where a newline is escaped: nothing a client sends can look like a line of it.
"""

import json
import logging
import sys
from datetime import UTC, datetime

from sync_pipeline.webserver.roles import Role

# The fields that every line begins with, in this order.
FIELDS = ("timestamp", "level", "logger", "message", "event", "user", "role", "address")

_logger = logging.getLogger("sync_pipeline.audit")
_logger.propagate = False
# Until `configure` is called, lines are dropped instead of going to logging's last resort, standard error.
_logger.addHandler(logging.NullHandler())


def configure() -> None:
    """Write audit lines to standard output."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    _logger.handlers = [handler]
    _logger.setLevel(logging.INFO)


def record(
    event: str, *, user: str | None = None, role: Role | None = None, address: str | None = None, **facts: object
) -> None:
    """Write an audit line. Never pass a secret as a fact."""
    values = (datetime.now(UTC).isoformat(), "info", _logger.name, event, event, user, role, address)
    line = dict(zip(FIELDS, values, strict=True))
    _logger.info(json.dumps({**line, **facts}, default=str))
