"""The check `credentials_current`: whether API version, token and access to data last.

The sensor `watch_credentials` asks Meta once a day. Runs only repeat what it stored, since their requests are counted.
"""

from collections.abc import Sequence
from datetime import UTC

from sync_pipeline.assets.specs import META_AD_ACCOUNTS
from sync_pipeline.assets.verdicts import ERROR, WARN, Check, Verdict
from sync_pipeline.sync.credentials import Finding

CREDENTIALS_CURRENT = Check(
    "credentials_current",
    META_AD_ACCOUNTS,
    "Meta's API version, the token and the token's access to data do not end within 60 days. Meta is asked once a day, "
    "by the sensor `watch_credentials`; runs repeat what it found.",
    daily=False,
)


def credentials_verdict(found: Sequence[Finding]) -> Verdict:
    """The verdict of the check: a warning before the first end, an error after it."""
    worst = [one for one in found if one.is_problem] + [one for one in found if one.is_warning]
    ends = {f"{one.subject}_ends_at": one.ends_at.astimezone(UTC).isoformat() for one in found if one.ends_at}
    checked = [one.checked_at for one in found if one.checked_at]
    return Verdict(
        passed=not worst,
        sentence="; ".join(one.sentence for one in worst or found),
        figures={**ends, **({"checked_at": min(checked).astimezone(UTC).isoformat()} if checked else {})},
        severity=ERROR if any(one.is_problem for one in found) else WARN,
    )
