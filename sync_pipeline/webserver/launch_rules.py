"""Tags and run config that a user who is not an admin may launch runs with.

Run launchers build pods, tasks and containers from tags, and run config reaches every field of every resource. So both
are permitted by list. The rules also cover what Dagster copies from a parent run or backfill: somebody else may have
launched it, under other rules.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import yaml

from sync_pipeline.dagster_internals.run_config import load_run_config_yaml

# Tags that the UI sends, and those of this project's own jobs.
LAUNCHER_TAGS = frozenset(
    {
        "dagster/asset_partition_range_start",
        "dagster/asset_partition_range_end",
        "dagster/partition",
        "dagster/partition_set",
        "dagster/backfill",
        "dagster/parent_run_id",
        "dagster/root_run_id",
        "dagster/is_resume_retry",
        "dagster/is_asset_resume_retry",
        "dagster/step_selection",
        "dagster/solid_selection",
        "dagster/op_selection",
        "dagster/preset_name",
        "dagster/from_ui",
        "trigger",
    }
)
# Tags of a job itself, which the UI repeats when it launches the job. Alerts of a run go to the tenant of its tag, so
# a launcher may set them only as the job's name, `<tenant>__<workflow>`, has them.
_TENANT_TAG = "tenant"
_WORKFLOW_TAG = "workflow"
_JOB_NAME_SEPARATOR = "__"
# Tags that Dagster adds to runs by itself. A re-execution may repeat them, with the values of its parent.
_DAGSTER_OWN_TAGS = frozenset(
    {
        "dagster/schedule_name",
        "dagster/sensor_name",
        "dagster/tick",
        "dagster/run_key",
        "dagster/code_location",
        "dagster/snapshot_id",
        "dagster/created_by",
        # Set by run launchers on every run; none of them reads it.
        "dagster/image",
        "dagster/retry_number",
        "dagster/will_retry",
        "dagster/auto_retry_run_id",
        "dagster/failure_reason",
        "dagster/auto_materialize",
        "dagster/from_automation_condition",
        "dagster/asset_evaluation_id",
        "dagster/auto_observe",
        "dagster/parent_backfill_id",
        "dagster/root_backfill_id",
    }
)
_HIDDEN_TAG_PREFIX = ".dagster/"

# Run config that changes nothing but how much is logged.
HARMLESS_RUN_CONFIG: Mapping[tuple[str, ...], frozenset[object]] = {
    ("loggers", "console", "config", "log_level"): frozenset({"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}),
}
# A bound on what is looked at: YAML aliases let a short text stand for any number of fields.
MAX_NODES = 2_000
# Bounds on what is logged.
MAX_LOGGED = 50
MAX_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Launch:
    """Tags and run config of one mutation, and of the runs and backfills that it copies both from."""

    tags: tuple[tuple[str, str], ...] = ()
    jobs: tuple[str, ...] = ()
    run_configs: tuple[object, ...] = ()
    # Those of the run that the request names as its parent; it may repeat them.
    parent_tags: tuple[tuple[str, str], ...] = ()
    # What Dagster copies from the original without the request repeating it.
    copied_tags: tuple[tuple[str, str], ...] = ()
    copied_run_configs: tuple[object, ...] = ()

    def problem(self) -> str | None:
        """Why only an admin may launch this, or None."""
        repeatable = {(key, value) for key, value in self.parent_tags if _may_be_repeated(key)}
        for tag in self.tags:
            if tag[0] not in LAUNCHER_TAGS and tag not in repeatable and not self._is_of_the_jobs(*tag):
                return f"only an admin may set the tag {shorten(tag[0])!r}"
        for key, _ in self.copied_tags:
            if not _may_be_repeated(key):
                return f"only an admin may repeat the tag {shorten(key)!r} of the original"
        for field in _all_fields(self.run_configs):
            if not field.harmless:
                return f"only an admin may set run config; this request sets {field.name}"
        for field in _all_fields(self.copied_run_configs):
            if not field.harmless:
                return f"only an admin may repeat the original's run config; it sets {field.name}"
        return None

    def _is_of_the_jobs(self, key: str, value: str) -> bool:
        """Whether all jobs that the mutation launches have this tag themselves."""
        position = {_TENANT_TAG: 0, _WORKFLOW_TAG: 2}.get(key)
        if position is None or not self.jobs:
            return False
        return all(job.partition(_JOB_NAME_SEPARATOR)[position] == value for job in self.jobs)

    @property
    def logged_tags(self) -> dict[str, str | None]:
        """Tags for the audit log, with the values of those that a launcher may set."""
        return {shorten(key): shorten(value) if key in LAUNCHER_TAGS else None for key, value in self.tags[:MAX_LOGGED]}

    @property
    def logged_run_config(self) -> dict[str, object]:
        """Fields of the run config for the audit log, with the values of the harmless ones."""
        fields = _all_fields(self.run_configs)
        return {field.name: field.value if field.harmless else None for field in fields[:MAX_LOGGED]}


@dataclass(frozen=True, slots=True)
class RunConfigField:
    """A field that run config sets; its value may be a secret."""

    path: tuple[str, ...]
    value: object

    @property
    def name(self) -> str:
        """Dotted path."""
        return shorten(".".join(self.path)) or "(the whole config)"

    @property
    def harmless(self) -> bool:
        """Whether every user who may launch a run may set this field to this value."""
        return isinstance(self.value, str) and self.value in HARMLESS_RUN_CONFIG.get(self.path, ())


def read_fields(config: object) -> list[RunConfigField]:
    """Return the fields that run config sets, read as Dagster would; text that is not YAML is one field."""
    if isinstance(config, str):
        try:
            config = load_run_config_yaml(config)
        except (yaml.YAMLError, ValueError, RecursionError):
            return [RunConfigField(("(not valid YAML)",), None)]
    fields: list[RunConfigField] = []
    pending: list[tuple[tuple[str, ...], object]] = [((), config)]
    for _ in range(MAX_NODES):
        if not pending:
            return fields
        path, value = pending.pop()
        if isinstance(value, Mapping):
            pending.extend(((*path, str(key)), item) for key, item in value.items())
        elif path or value is not None:
            fields.append(RunConfigField(path, value))
    return [*fields, RunConfigField(("(too many fields)",), None)]


def _all_fields(configs: Iterable[object]) -> list[RunConfigField]:
    return [field for config in configs for field in read_fields(config)]


def _may_be_repeated(tag: str) -> bool:
    """Whether a re-execution may repeat a tag of its parent.

    The tags that run launchers read have a namespace, as in `dagster-k8s/config`; a user's own usually do not.
    """
    return "/" not in tag or tag in LAUNCHER_TAGS or tag in _DAGSTER_OWN_TAGS or tag.startswith(_HIDDEN_TAG_PREFIX)


def shorten(text: str) -> str:
    """Cut text from a client to a length that is fit for a log line."""
    return text if len(text) <= MAX_LENGTH else f"{text[:MAX_LENGTH]}..."
