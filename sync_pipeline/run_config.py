"""What a run's configuration may say: the console's log level, and nothing else.

Whoever may launch a run may configure it. Dagster's own executor, logger and I/O manager accept more than that: file
paths, logger names and, in every field of type `StringSource`, `IntSource` or `BoolSource` (which a pydantic `str`,
`int` or `bool` becomes), `{env: NAME}`, which puts the value of any environment variable into the run's events. The
definitions here accept none of it.
"""

from typing import Any, Final, NoReturn

import dagster as dg

from sync_pipeline.errors import SyncPipelineError

LOG_LEVELS: Final = ("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG")
# The config schema of every asset and executor: a shape without fields. Left out, it would accept anything.
NO_CONFIG: Final[dict[str, Any]] = {}


class StoredValueError(SyncPipelineError):
    """An asset returned a value for Dagster to store, or asked for one; rows are stored in the warehouse alone."""

    def __init__(self, asset: str) -> None:
        super().__init__(
            f"{asset} exchanges a value through Dagster, which stores none here; write rows to the warehouse and read "
            "them there"
        )
        self.asset = asset


class _NoStoredValues(dg.IOManager):
    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        # An asset that returns nothing has nothing to store.
        if obj is not None:
            raise StoredValueError(context.asset_key.to_user_string())

    def load_input(self, context: dg.InputContext) -> NoReturn:
        raise StoredValueError(context.asset_key.to_user_string())


@dg.io_manager(config_schema=NO_CONFIG, description="Stores no values: assets write their rows to the warehouse.")
def no_stored_values(_: dg.InitResourceContext) -> dg.IOManager:
    """The I/O manager of every asset."""
    return _NoStoredValues()


# A process per step would cost more than most steps take.
executor: Final = dg.in_process_executor.configured(lambda _: {}, name="in_process", config_schema=NO_CONFIG)

console_logger: Final = dg.colored_console_logger.configured(
    lambda config: {"log_level": config["log_level"], "name": "dagster"},
    config_schema={
        "log_level": dg.Field(
            dg.Enum("LogLevel", [dg.EnumValue(level) for level in LOG_LEVELS]),
            default_value="INFO",
            description="The least severe level that is written to the console.",
        )
    },
    description="Writes the lines of a run to the console, in colours.",
)
