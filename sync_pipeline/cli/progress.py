"""How far a foreground run is: a bar with the time left on a terminal, a plain line a day elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Protocol

from sync_pipeline.terminal import say, say_beside_progress

if TYPE_CHECKING:
    from rich.progress import Progress


@dataclass(frozen=True, slots=True)
class CommittedDay:
    """A day of one source that the run has just committed, with the figures that Dagster shows of it."""

    source: str
    day: date
    figures: dict[str, Any]


class Listener(Protocol):
    """Hears of every day that a run commits, and of its warnings."""

    def committed(self, day: CommittedDay) -> None:
        """Show the day."""
        ...

    def said(self, warning: str) -> None:
        """Show a warning of the run."""
        ...


@contextmanager
def progress_of(title: str, steps: int) -> Iterator[Listener]:
    """Show the progress of a run that commits `steps` days, counted once per source."""
    if not sys.stdout.isatty():
        yield _Lines(title)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(highlight=False)) as progress:
        yield _Bar(progress, title, steps)


class _Lines:
    def __init__(self, title: str) -> None:
        self._title = title

    def committed(self, day: CommittedDay) -> None:
        say(f"{self._title}: {sentence(day)}")

    def said(self, warning: str) -> None:
        say(f"{self._title}: {warning}")


class _Bar:
    def __init__(self, progress: "Progress", title: str, steps: int) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=steps)

    def committed(self, day: CommittedDay) -> None:
        say_beside_progress(self._progress.console, sentence(day))
        self._progress.advance(self._task)

    def said(self, warning: str) -> None:
        say_beside_progress(self._progress.console, warning)


def sentence(day: CommittedDay) -> str:
    """A committed day in one line: its rows, its money, and what it took."""
    figures = day.figures
    amount = " ".join(
        f"{name.replace('_', ' ')} {figures[name]:,.2f}" for name in ("spend", "order_total") if name in figures
    )
    short = "" if figures["complete"] else f", not complete: {figures['incomplete_because']}"
    return (
        f"{day.day} {day.source}: {figures['dagster/partition_row_count']} rows, {amount}, "
        f"{figures['requests']} requests, {figures['seconds']:.1f} s{short}"
    )
