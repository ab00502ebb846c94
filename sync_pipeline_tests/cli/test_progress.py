"""What a run in the foreground prints of each day that it commits."""

from datetime import date
from typing import Any

import pytest

from sync_pipeline.cli.progress import CommittedDay, sentence

FIGURES = {"dagster/partition_row_count": 12, "spend": 17.5, "requests": 3, "seconds": 1.25}


@pytest.mark.parametrize(
    ("state", "end"),
    [
        ({"complete": True}, "3 requests, 1.2 s"),
        (
            {
                "complete": False,
                "incomplete_because": "it was fetched before the day was over, at 2026-10-20 07:00 UTC",
            },
            "1.2 s, not complete: it was fetched before the day was over, at 2026-10-20 07:00 UTC",
        ),
        (
            {"complete": False, "incomplete_because": "not all of it could be read"},
            "1.2 s, not complete: not all of it could be read",
        ),
    ],
)
def test_a_line_of_a_day_says_why_it_is_not_complete(state: dict[str, Any], end: str) -> None:
    line = sentence(CommittedDay("meta", date(2026, 10, 19), {**FIGURES, **state}))
    assert line.startswith("2026-10-19 meta: 12 rows, spend 17.50, 3 requests")
    assert line.endswith(end)
