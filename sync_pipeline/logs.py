"""Logs of this process: lines for people without control characters, or JSON where `SYNC_PIPELINE_LOG` is `json`.

JSON logs have one object per line on standard error. Each line has `timestamp`, `level`, `logger` and `message`, and
where known `tenant`, `workflow`, `run_id`, `step`, `source`, `day`, `account_id`, `shop_id`, `error_code` and
`exception`. docs/metrics.md describes them.

Configured before Dagster is imported, this is the format of Dagster's processes and of uvicorn, too: both give their
loggers handlers of their own, and those get this format.
"""

import copy
import json
import logging
import os
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from types import MappingProxyType, TracebackType
from typing import Any

from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.sources.redaction import hide_credentials, hide_parameters
from sync_pipeline.text_safety import printable, printable_line

VARIABLE = "SYNC_PIPELINE_LOG"
# What a log call may add by `extra`, and a failure by its metadata.
FIELDS = ("tenant", "workflow", "run_id", "source", "day", "account_id", "shop_id", "error_code")
# Loggers that Dagster's commands give a handler of their own.
_DAGSTER_LOGGERS = ("dagster", "dagit", "dagster-webserver")
# What Dagster puts on a record of a run.
_OF_RUN = "dagster_meta"
# uvicorn's log of requests, whose paths have a query, which may hold a code of single sign-on.
_ACCESS = "uvicorn.access"

_logger = logging.getLogger("sync_pipeline")


class LogFormatError(SyncPipelineError):
    """SYNC_PIPELINE_LOG asks for a form of logs that there is not."""

    def __init__(self) -> None:
        super().__init__(f"{VARIABLE} must be json, or unset for lines meant for people")


def as_json(environ: Mapping[str, str] | None = None) -> bool:
    """Whether logs are to be JSON. Raises `LogFormatError` for a value that is neither `json` nor empty."""
    value = (os.environ if environ is None else environ).get(VARIABLE, "")
    if value not in {"", "json"}:
        raise LogFormatError
    return value == "json"


def configure() -> None:
    """Set up this process's logs as `SYNC_PIPELINE_LOG` says. Raises `LogFormatError`.

    Unset, they keep their format and destinations, and lose the control characters that a message may hold.
    """
    if as_json():
        _configure_json()
    else:
        _configure_text()


def _configure_json() -> None:
    if _configured():
        return
    # Dagster makes a logger of its own per run, whose colours leave no other way in.
    logging.setLoggerClass(_JsonLogger)
    for name in _DAGSTER_LOGGERS:
        logging.getLogger(name).handlers.clear()
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    # A line that Dagster has taken for a run's is written by the run's own logger.
    handler.addFilter(lambda record: not hasattr(record, _OF_RUN))
    logging.root.handlers = [handler]
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def _configure_text() -> None:
    if logging.getLoggerClass() is _PrintableLogger:
        return
    logging.setLoggerClass(_PrintableLogger)
    for logger in (logging.root, *map(logging.getLogger, _DAGSTER_LOGGERS)):
        for handler in logger.handlers:
            _make_printable(handler)
    if logging.lastResort:
        _make_printable(logging.lastResort)
    sys.excepthook = _print_uncaught


def _configured() -> bool:
    return logging.getLoggerClass() is _JsonLogger


def tell(text: str, level: int = logging.ERROR, fields: Mapping[str, str] = MappingProxyType({})) -> None:
    """Say something on standard error: `error: ...` or `warning: ...` to people, or a line of JSON with `fields`."""
    if _configured():
        _logger.log(level, text, extra=dict(fields))
    else:
        sys.stderr.write(f"{logging.getLevelName(level).lower()}: {printable_line(text)}\n")


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; what is not known is left out."""
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            **{name: value for name in FIELDS if (value := getattr(record, name, None)) is not None},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if meta := getattr(record, _OF_RUN, None):
            line |= _of_run(meta)
        for name in ("message", "exception"):
            if name in line:
                line[name] = hide_credentials(hide_parameters(line[name]))
        return json.dumps(line, default=str)


def _message(record: logging.LogRecord) -> str:
    if isinstance(record.msg, dict):  # from structlog, which some parts of Dagster use
        return str(record.msg.get("event", record.msg))
    if record.name == _ACCESS and isinstance(record.args, tuple) and len(record.args) == 5:
        address, method, path, http, status = record.args
        return f'{address} - "{method} {str(path).partition("?")[0]} HTTP/{http}" {status}'
    return record.getMessage()


class PrintableFormatter(logging.Formatter):
    """Another formatter, given records without control characters; its own colours stay."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self._formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        """Format a cleaned copy of the record."""
        cleaned = copy.copy(record)
        cleaned.msg, cleaned.args = printable(record.getMessage()), ()
        if record.exc_info:
            cleaned.exc_text = printable(self._formatter.formatException(record.exc_info))
        return self._formatter.format(cleaned)


class _PrintableLogger(logging.Logger):
    def addHandler(self, handler: logging.Handler) -> None:  # noqa: N802 (the base class's name)
        _make_printable(handler)
        super().addHandler(handler)


def _make_printable(handler: logging.Handler) -> None:
    if isinstance(handler, logging.StreamHandler) and not isinstance(handler.formatter, PrintableFormatter):
        handler.setFormatter(PrintableFormatter(handler.formatter or logging.Formatter()))


class _JsonLogger(logging.Logger):
    def addHandler(self, handler: logging.Handler) -> None:  # noqa: N802 (the base class's name)
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            if self.name in _DAGSTER_LOGGERS and self.manager.loggerDict.get(self.name) is self:
                # The root logger writes its lines. A run's own logger has the same name, and no parent.
                return
            handler.setFormatter(JsonFormatter())
        super().addHandler(handler)


def _of_run(meta: Mapping[str, Any]) -> dict[str, Any]:
    """What Dagster knows of a line of a run: its own text is the run's and the step's name, and then the message."""
    tags, event = meta["job_tags"], meta["dagster_event"]
    known = {
        "message": meta["orig_message"],
        "tenant": tags.get("tenant"),
        "workflow": tags.get("workflow"),
        "run_id": meta["run_id"],
        "step": meta["step_key"],
        **(dict(_of_event(event)) if event else {}),
    }
    return {name: value for name, value in known.items() if value is not None}


def _of_event(event: Any) -> Iterator[tuple[str, str]]:
    from sync_pipeline.assets.specs import SYNCED

    if event.asset_key:
        yield "tenant", event.asset_key.path[0]
        yield from (("source", source) for source, name in SYNCED.items() if name == event.asset_key.path[-1])
    if event.partition:
        yield "day", event.partition
    data = event.event_specific_data
    if failure := getattr(data, "user_failure_data", None):
        said = {"day": "date", **{name: name for name in FIELDS if name != "day"}}
        yield from ((name, failure.metadata[key].value) for name, key in said.items() if key in failure.metadata)
        # The sentence is the failure; the traceback behind it says where in the code, which Dagster keeps.
        yield "message", failure.description or event.message
    elif error := getattr(data, "error", None):
        yield "exception", error.to_string()


def _print_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(printable("".join(traceback.format_exception(kind, error, trace))))


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _logger.critical("uncaught %s", kind.__name__, exc_info=(kind, error, trace))


def _log_uncaught_in_thread(uncaught: threading.ExceptHookArgs) -> None:
    error = uncaught.exc_value or uncaught.exc_type()
    _log_uncaught(uncaught.exc_type, error, uncaught.exc_traceback)
