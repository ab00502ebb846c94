"""Reasons why a cron expression cannot be a schedule."""

import pytest

from sync_pipeline import cron


@pytest.mark.parametrize(
    "expression",
    ["0 2 * * *", "*/15 0-23 1,15 jan-dec sun", "0 2 * * 7", "0 2 L * *", "0 2 * * mon#1", "0 22-2 * * fri-mon"],
)
def test_valid_expression_has_no_problem(expression: str) -> None:
    assert cron.problem(expression) is None


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("60 2 * * *", "has the minute 60, which must be from 0 to 59"),
        ("0 24 * * *", "has the hour 24, which must be from 0 to 23"),
        ("0 2 0 * *", "has the day of the month 0, which must be from 1 to 31"),
        ("0 2 * 1,13 *", "has the month 13, which must be from 1 to 12"),
        ("0 2 * * 1-8", "has the day of the week 8, which must be from 0 to 7 (0 and 7 are Sunday)"),
        ("0 2 * * mond", "has an invalid value for the day of the week: mond"),
        ("0 noon * * *", "has an invalid value for the hour: noon"),
        ("0 2 * * abcdefghijk", "has an invalid value for the day of the week"),
        ("*/0 2 * * *", "has a step of 0 for the minute; a step is at least 1"),
        ("0 2 30 2 *", cron.NEVER),
        ("0 0 31 2,4 *", cron.NEVER),
        ("0 2 * *", cron.FORM),
        ("@daily", cron.FORM),
        ("H 2 * * *", cron.FORM),
    ],
)
def test_invalid_expression_gets_its_true_reason(expression: str, expected: str) -> None:
    assert cron.problem(expression) == expected
