"""Everything that one collection has read, as plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from sync_pipeline.assets.check_results import CheckResults
from sync_pipeline.dagster_internals.stored_runs import StoredRun
from sync_pipeline.warehouse.counters import Counts

# What is read apart from the others, so that one of them can fail alone.
Part: TypeAlias = Literal["checks", "runs", "schedules", "tenants", "warehouse"]


@dataclass(frozen=True, slots=True)
class WorkflowKey:
    """A workflow of a tenant."""

    tenant_id: str
    workflow: str


@dataclass(frozen=True, slots=True)
class Schedule:
    """Whether a schedule is on, and whether somebody switched it away from what the tenant file says."""

    key: WorkflowKey
    enabled: bool
    switched: bool


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of the whole installation, its queue and its daemons.

    `oldest_queued_s` is None where the queue is empty, a heartbeat's age None where a daemon never had one. The
    histogram has, by status, the cumulative buckets and the sum of seconds.
    """

    by_status: Mapping[str, int]
    oldest_queued_s: float | None
    heartbeats: Mapping[str, float | None]
    durations: Mapping[str, tuple[list[tuple[str, float]], float]]


@dataclass(frozen=True, slots=True)
class Tenants:
    """The tenants that are in use, each with its sources and its code location, blank where that is not known."""

    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    locations: Mapping[str, str] = field(default_factory=dict)
    broken_files: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was read; a part that failed is None or empty, and in `failed`."""

    taken_at: float
    seconds: float
    parts: tuple[Part, ...]
    failed: frozenset[Part] = frozenset()
    tenants: Tenants = field(default_factory=Tenants)
    runs: Runs | None = None
    schedules: tuple[Schedule, ...] = ()
    last_runs: Mapping[WorkflowKey, StoredRun] = field(default_factory=dict)
    checks: CheckResults | None = None
    days_behind: Mapping[tuple[str, str], int] = field(default_factory=dict)
    counts: Mapping[tuple[str, str], Counts] = field(default_factory=dict)
