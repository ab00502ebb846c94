"""The latest results of the tenants' checks, read from Dagster's evaluations.

Checks are the source of every alarm. Whatever carries one elsewhere reads its result here and computes none itself.
"""

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa

from sync_pipeline.assets.credentials import CREDENTIALS_CURRENT
from sync_pipeline.assets.verdicts import ERROR
from sync_pipeline.dagster_internals.stored_runs import StoredEvaluation, evaluations_after, last_evaluation_before
from sync_pipeline.text_safety import unescape_markdown

# A day's result counts for so long; a check that is not of a day is evaluated at least daily.
KEPT: Final = timedelta(days=14)
LINES_AT_ONCE: Final = 20_000
# A run that was killed leaves evaluations planned for ever.
PLANNED_FOR: Final = timedelta(days=1)
_NAME: Final = re.compile(r"[a-z_]+", re.ASCII)
_WITH_EVENT: Final = (CREDENTIALS_CURRENT.name,)


@dataclass(frozen=True, slots=True, order=True)
class CheckKey:
    """A check of an asset of a tenant."""

    tenant_id: str
    asset: str
    check: str


@dataclass(frozen=True, slots=True)
class Failing:
    """A check that does not pass: its severity, and of how many days, 1 for a check that is not of a day.

    `sentence` is what its latest evaluation says.
    """

    key: CheckKey
    severity: str
    days: int
    sentence: str

    @property
    def is_alarm(self) -> bool:
        """Whether somebody should be told: an error, or credentials that end soon. Prometheus' rules have the same."""
        return self.severity == ERROR.value or self.key.check == CREDENTIALS_CURRENT.name


@dataclass(frozen=True, slots=True)
class CheckResults:
    """The latest result of each check: those that fail, and how many pass, by tenant.

    `ends` is when API versions, tokens and their access to data end, in seconds of the epoch, by tenant and subject.
    """

    failing: tuple[Failing, ...] = ()
    passing: dict[str, int] = field(default_factory=dict)
    ends: dict[tuple[str, str], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Failure:
    at: datetime
    severity: str = ""
    sentence: str = ""


@dataclass(slots=True)
class _Latest:
    """The latest evaluation of each day of a check that failed, and when it was last evaluated."""

    failing: dict[str | None, _Failure] = field(default_factory=dict)
    at: dict[str | None, datetime] = field(default_factory=dict)


class CheckReader:
    """Keeps the latest results, and reads only what was evaluated since."""

    def __init__(self) -> None:
        self._after: int | None = None
        self._latest: dict[CheckKey, _Latest] = {}
        self._ends: dict[str, dict[str, float]] = {}

    def read(self, connection: sa.Connection, tenants: Collection[str], now: datetime) -> CheckResults:
        """Read what is new, and return the latest results of these tenants."""
        self._read_new(connection, now)
        failing: list[Failing] = []
        passing = dict.fromkeys(tenants, 0)
        for key, latest in self._latest.items():
            if key.tenant_id not in passing:
                continue
            current = [one for one in latest.failing.values() if now - one.at <= KEPT]
            if not current:
                passing[key.tenant_id] += 1
            failing += _by_severity(key, current)
        ends = {
            (tenant_id, subject): at
            for tenant_id, of_tenant in self._ends.items()
            if tenant_id in passing
            for subject, at in of_tenant.items()
        }
        return CheckResults(tuple(failing), passing, ends)

    def _read_new(self, connection: sa.Connection, now: datetime) -> None:
        after = last_evaluation_before(connection, KEPT) if self._after is None else self._after
        planned: int | None = None
        events: dict[tuple[CheckKey, str | None], StoredEvaluation] = {}
        while lines := evaluations_after(connection, after, LINES_AT_ONCE, _WITH_EVENT):
            after = lines[-1].line
            for line in lines:
                if line.planned:
                    # Its result will be written into this line.
                    if planned is None and now - line.at < PLANNED_FOR:
                        planned = line.line
                elif key := _key(line.asset_key, line.check):
                    self._note(key, line, events)
        for (key, partition), line in events.items():
            self._read_event(key, partition, line)
        self._after = after if planned is None else planned - 1

    def _note(
        self, key: CheckKey, line: StoredEvaluation, events: dict[tuple[CheckKey, str | None], StoredEvaluation]
    ) -> None:
        latest = self._latest.setdefault(key, _Latest())
        known = latest.at.get(line.partition)
        if known is not None and known > line.at:
            return
        latest.at[line.partition] = line.at
        latest.failing.pop(line.partition, None)
        events.pop((key, line.partition), None)
        if line.failed:
            latest.failing[line.partition] = _Failure(line.at)
        if line.event is not None:
            events[key, line.partition] = line
        if line.partition is not None and not line.failed:
            # A day that passes needs no memory, of which years of days would take a lot.
            del latest.at[line.partition]

    def _read_event(self, key: CheckKey, partition: str | None, line: StoredEvaluation) -> None:
        evaluation = line.evaluation()
        if evaluation is None:
            return
        if line.failed:
            sentence = unescape_markdown(evaluation.description or "")
            self._latest[key].failing[partition] = _Failure(line.at, evaluation.severity.value, sentence)
        if key.check == CREDENTIALS_CURRENT.name:
            self._ends[key.tenant_id] = dict(_ends_of(evaluation.metadata))


def _by_severity(key: CheckKey, failures: Sequence[_Failure]) -> Iterator[Failing]:
    for severity in sorted({one.severity for one in failures}):
        alike = [one for one in failures if one.severity == severity]
        yield Failing(key, severity, len(alike), max(alike, key=lambda one: one.at).sentence)


def _key(asset_key: str, check: str) -> CheckKey | None:
    """Return the check of an evaluation, None where it cannot be one of ours: whoever may report one names it."""
    path = json.loads(asset_key)
    if not isinstance(path, list) or len(path) != 2 or not all(map(_NAME.fullmatch, (path[1], check))):
        return None
    return CheckKey(path[0], path[1], check)


def _ends_of(metadata: object) -> Iterator[tuple[str, float]]:
    assert isinstance(metadata, dict)
    for name, value in metadata.items():
        subject, _, rest = name.partition("_ends_at")
        if not rest and subject != name:
            yield subject, datetime.fromisoformat(str(value.value)).timestamp()
