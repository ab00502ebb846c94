"""Behaviour of the sandbox where the real APIs differ from one account, app, shop or moment to the next."""

from dataclasses import asdict, dataclass, fields
from typing import Literal


@dataclass
class Behaviour:
    """Switches that can be changed while the sandbox runs.

    Requests and pages:
        `refuse_expired_versions` answers an expired version with an error instead of an upgrade.
        `empty_pages` inserts empty pages that still have a `next`.
        `max_rows_per_request` (ads times days) and `max_limit` bound a direct insights request, and `max_edge_limit`
        bounds `limit` on every other paged edge; requests beyond them are refused as too much data.
        `opted_into_breakdowns` False makes insights by an optional breakdown empty, without an error.
        `batch_nulls` is how many entries of the next batch requests time out (null); it counts down.

    Tokens:
        `app_secret` makes every Graph call require the matching `appsecret_proof`.
        `token_expires_at` and `data_access_expires_at` are unix times shown by `debug_token`; 0 means never.

    Usage headers:
        `usage_headers` turns them off. `usage_header_form` writes them as JSON objects (as recorded), as lists of such
        objects, or as plain text that is not JSON. `access_tier` is the tier that they name; None leaves it out.
        `regain_access` says whether a blocked caller sees the time until it regains access, a zero, or no such field.

    Reports:
        `numeric_report_ids` gives report ids as numbers. `reports_invisible_polls` is how many polls of a new report
        answer 100/33. `reports_unfinished_polls` is how many polls show it unfinished. After these,
        `reports_completed_below_100` polls show "Job Completed" at 90 %, None for all of them.
        `report_outcome` is how reports end.

    Pancake:
        `pancake_text_counters` gives the envelope's counters as text; `pancake_orders_key` names the list of orders.
    """

    refuse_expired_versions: bool = False
    empty_pages: bool = False
    max_rows_per_request: int | None = None
    max_limit: int | None = None
    max_edge_limit: int | None = None
    opted_into_breakdowns: bool = True
    batch_nulls: int = 0
    app_secret: str | None = None
    token_expires_at: int = 0
    data_access_expires_at: int = 0
    usage_headers: bool = True
    usage_header_form: Literal["object", "list", "text"] = "object"
    access_tier: str | None = "standard_access"
    regain_access: Literal["known", "zero", "absent"] = "known"
    numeric_report_ids: bool = False
    reports_invisible_polls: int = 0
    reports_unfinished_polls: int = 2
    reports_completed_below_100: int | None = 0
    report_outcome: Literal["completed", "failed", "skipped"] = "completed"
    pancake_text_counters: bool = False
    pancake_orders_key: Literal["data", "orders"] = "data"

    def __post_init__(self) -> None:
        self._initial = asdict(self)

    def reset(self) -> None:
        """Set every switch back to the value it was created with."""
        for switch in fields(self):
            setattr(self, switch.name, self._initial[switch.name])
