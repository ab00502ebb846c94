"""What the sandbox does in the cases where the real APIs are known to do one thing or the other."""

from dataclasses import dataclass, fields
from typing import Literal


@dataclass
class Behaviour:
    """Switches, all changeable while the sandbox runs.

    `max_rows_per_request` (ads asked for x days) and `max_limit` draw the line beyond which a direct insights request
    is refused as too much data. `app_secret` makes every Graph call need the matching `appsecret_proof`. `batch_nulls`
    is how many entries of coming batch requests time out, that is, come back as null; it counts down.
    `reports_invisible_polls` is how many polls of a report started from now on answer 100/33 before it shows.
    """

    refuse_expired_versions: bool = False
    empty_pages: bool = True
    usage_headers: bool = True
    max_rows_per_request: int | None = None
    max_limit: int | None = None
    app_secret: str | None = None
    batch_nulls: int = 0
    reports_invisible_polls: int = 0
    report_outcome: Literal["completed", "failed", "skipped"] = "completed"
    pancake_text_counters: bool = False
    pancake_orders_key: Literal["data", "orders"] = "data"

    def reset(self) -> None:
        """All switches back to their defaults."""
        for switch in fields(self):
            setattr(self, switch.name, switch.default)
