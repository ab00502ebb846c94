"""Sandboxes that ask more of a client than the APIs do every day."""

from sync_pipeline.sandbox.behaviour import Behaviour


def demanding() -> Behaviour:
    """Return switches for empty pages before the end, reports completed below 100 %, and report ids as numbers."""
    return Behaviour(empty_pages=True, reports_completed_below_100=1, numeric_report_ids=True)
