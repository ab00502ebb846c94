"""The machine's clock, as the engine reads it, in a test's hands."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from sync_pipeline.date_ranges import local_date


def stop_clock(monkeypatch: pytest.MonkeyPatch, module: str, now: datetime) -> None:
    """Have a module read `now` whenever it asks for the time."""

    class Stopped(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return now.astimezone(tz)

    monkeypatch.setattr(f"{module}.datetime", Stopped)


class EngineClock:
    """A clock that stands still at `now`, or moves on by `step` whenever the engine reads it.

    Runs take today from it, too; the database keeps its own clock.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, now: datetime) -> None:
        self.now = now
        self.step = timedelta()
        clock = self

        class Read(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
                read, clock.now = clock.now, clock.now + clock.step
                return read.astimezone(tz)

        monkeypatch.setattr("sync_pipeline.sync.engine.datetime", Read)
        for module in ("sync.meta", "sync.pos", "assets.checks", "assets.performance"):
            monkeypatch.setattr(f"sync_pipeline.{module}.today_in", self._today)

    def set(self, now: str) -> None:
        """Set the clock to an instant in UTC."""
        self.now = datetime.fromisoformat(now).replace(tzinfo=UTC)

    def _today(self, timezone: str, _: datetime | None = None) -> date:
        return local_date(self.now, timezone)
