"""Which days are complete: those whose rows were all read after the day was over in all of its timezones.

A day of orders is over when it is over in the tenant's timezone. A day of insights is also a day of the timezone of
each ad account fetched, so it is over when it is over in the last of these. The sync log keeps that instant as
`over_at`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from sync_pipeline.warehouse.schema import meta_ad_accounts

# Of a line `l` of the sync log and its tenant `t`. A clock that was ahead does not complete a day: nothing is fetched
# later than now. After a change of the tenant's timezone, a day must have been over in the new one, too.
_FETCHED: Final = "least(coalesce(l.fetched_at, l.started), now())"
WAS_OVER: Final = f"(({_FETCHED} >= l.over_at) IS NOT FALSE AND ({_FETCHED} AT TIME ZONE t.timezone)::date > l.day)"
IS_COMPLETE: Final = f"(l.complete AND {WAS_OVER})"


def last_over_day(timezone: str) -> str:
    """Return the SQL of the last day that is over by now, as of a line `l` of the sync log.

    It is over in the tenant's timezone, which `timezone` is the SQL of, and in all timezones that the line's day was
    over in.
    """
    return f"""((now() - greatest(l.over_at - (l.day + 1)::timestamp AT TIME ZONE {timezone}, interval '0'))
        AT TIME ZONE {timezone})::date - 1"""


# Where `since` is given, a part of the day is wanted, as of that instant or later.
_COMPLETENESS: Final = f"""
    SELECT wanted.tenant_id, wanted.source,
        (
            SELECT max(l.day) FROM sync_log AS l JOIN tenants AS t USING (tenant_id)
            WHERE l.tenant_id = wanted.tenant_id AND l.source = wanted.source AND {IS_COMPLETE}
        ),
        EXISTS (
            SELECT FROM sync_log AS l JOIN tenants AS t USING (tenant_id)
            WHERE l.tenant_id = wanted.tenant_id AND l.source = wanted.source AND l.day = wanted.day
            AND CASE
                WHEN wanted.since IS NULL THEN {IS_COMPLETE}
                ELSE l.complete AND coalesce(l.fetched_at, l.started) >= wanted.since
            END
        )
    FROM unnest(
        CAST(:tenants AS text[]), CAST(:sources AS text[]), CAST(:days AS date[]), CAST(:since AS timestamptz[])
    ) AS wanted (tenant_id, source, day, since)
"""
# Days from the first one on that a source has, because a source may be newer than the tenant.
_INCOMPLETE: Final = f"""
    SELECT days.day, sources.source, latest.complete AS all_read, latest.over_at, coalesce(latest.missing, '{{}}')
    FROM unnest(CAST(:days AS date[])) AS days (day)
    JOIN (
        SELECT source, min(day) AS first_day FROM sync_log WHERE tenant_id = :tenant GROUP BY source
    ) AS sources ON sources.first_day <= days.day
    LEFT JOIN LATERAL (
        SELECT l.complete, coalesce(l.over_at, (l.day + 1)::timestamp AT TIME ZONE t.timezone) AS over_at, l.missing
        FROM sync_log AS l JOIN tenants AS t USING (tenant_id)
        WHERE l.tenant_id = :tenant AND l.source = sources.source AND l.day = days.day
        ORDER BY l.id DESC LIMIT 1
    ) AS latest ON true
    WHERE NOT EXISTS (
        SELECT FROM sync_log AS l JOIN tenants AS t USING (tenant_id)
        WHERE l.tenant_id = :tenant AND l.source = sources.source AND l.day = days.day AND {IS_COMPLETE}
    )
    ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Completeness:
    """The last complete day of a source, and whether the wanted day, or the wanted part of it, is stored."""

    last_complete: date | None
    expected_is_complete: bool


@dataclass(frozen=True, slots=True)
class IncompleteDay:
    """A day of a source that is not complete, as it was last fetched.

    `all_read` and `over_at` are None where it never was. `missing` are the accounts and shops that refused.
    """

    day: date
    source: str
    all_read: bool | None
    over_at: datetime | None
    missing: Sequence[str] = ()

    def why(self, timezone: str) -> str:
        """Say why the day is not complete, with times in a timezone."""
        if self.over_at is None:
            return f"{self.source} was not synced"
        if self.missing:
            return f"{self.source} lacks {', '.join(self.missing)}"
        if not self.all_read:
            return f"not all of {self.source} could be read"
        over_at = self.over_at.astimezone(ZoneInfo(timezone))
        return f"{self.source} was fetched before the day was over, at {over_at:%Y-%m-%d %H:%M}"


def completeness(
    connection: sa.Connection, wanted: Collection[tuple[str, str, date, datetime | None]]
) -> dict[tuple[str, str], Completeness]:
    """For each tenant, source and day wanted: whether that day is complete, and which day is the last complete one.

    The fourth value of each is None, or the instant since which a part of the day must have been fetched.
    """
    tenants, sources, days, since = ([one[n] for one in wanted] for n in range(4))
    with connection.begin():
        found = connection.execute(
            sa.text(_COMPLETENESS), {"tenants": tenants, "sources": sources, "days": days, "since": since}
        )
        return {(tenant, source): Completeness(last, here) for tenant, source, last, here in found}


def incomplete_days(connection: sa.Connection, tenant_id: str, days: Collection[date]) -> list[IncompleteDay]:
    """Return which of these days are not complete, by day and source; the connection is in a transaction."""
    found = connection.execute(sa.text(_INCOMPLETE), {"tenant": tenant_id, "days": list(days)})
    return [IncompleteDay(*row) for row in found]


def timezones_of(connection: sa.Connection, tenant_id: str, account_ids: Collection[str]) -> list[str | None]:
    """Return the timezone of each of these ad accounts, None where it is not known."""
    c = meta_ad_accounts.c
    statement = sa.select(c.account_id, c.timezone_name).where(
        c.tenant_id == tenant_id, c.account_id.in_(list(account_ids))
    )
    with connection.begin():
        known = {row[0]: row[1] for row in connection.execute(statement)}
    return [known.get(account_id) for account_id in account_ids]


def current_timezones(connection: sa.Connection, tenant_id: str) -> dict[str, str | None]:
    """Return the timezone of each enabled ad account that the last discovery listed: those the next run fetches."""
    c = meta_ad_accounts.c
    last_run = (
        sa.select(c.listed_run_id)
        .where(c.tenant_id == tenant_id)
        .order_by(c.listed_at.desc().nulls_last())
        .limit(1)
        .scalar_subquery()
    )
    statement = (
        sa.select(c.account_id, c.timezone_name)
        .where(c.tenant_id == tenant_id, c.enabled, c.listed_run_id == last_run)
        .order_by(c.account_id)
    )
    with connection.begin():
        return {row[0]: row[1] for row in connection.execute(statement)}
