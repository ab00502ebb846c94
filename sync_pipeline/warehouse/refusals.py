"""Ad accounts and shops that refused, and the days that were stored without them."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from sync_pipeline.warehouse.database import bound_to, failing_clearly
from sync_pipeline.warehouse.schema import sync_log, sync_refusals

# The last line of a day says what it lacks.
_INCOMPLETE_DAYS: Final = """
    SELECT latest.source, latest.day, scope FROM (
        SELECT DISTINCT ON (log.source, log.day) log.source, log.day, log.missing FROM sync_log AS log
        WHERE log.tenant_id = :tenant AND log.day IN (
            SELECT day FROM sync_log WHERE tenant_id = :tenant AND missing <> '{{}}'
        ) {days}
        ORDER BY log.source, log.day, log.id DESC
    ) AS latest
    CROSS JOIN LATERAL unnest(latest.missing) AS scope
    WHERE NOT EXISTS (
        SELECT FROM meta_ad_accounts AS a
        WHERE latest.source = 'meta' AND a.tenant_id = :tenant AND a.account_id = scope AND {excluded}
    ) AND NOT EXISTS (
        SELECT FROM pos_shops AS a
        WHERE latest.source = 'pos' AND a.tenant_id = :tenant AND a.shop_id = scope AND {excluded}
    )
"""
# A source whose accounts or shops all refuse stores no day.
_STANDING: Final = f"""
    SELECT coalesce(lacking.source, r.source) AS source, coalesce(lacking.scope, r.scope) AS scope,
        coalesce(lacking.days, '{{}}') AS days, r.message
    FROM (
        SELECT found.source, found.scope, array_agg(found.day ORDER BY found.day) AS days
        FROM ({_INCOMPLETE_DAYS.format(days="", excluded="NOT a.enabled")}) AS found
        GROUP BY found.source, found.scope
    ) AS lacking
    FULL JOIN (SELECT * FROM sync_refusals WHERE tenant_id = :tenant) AS r
        ON r.source = lacking.source AND r.scope = lacking.scope
    WHERE lacking.days IS NOT NULL OR NOT EXISTS (
        SELECT FROM sync_log AS log
        WHERE log.tenant_id = :tenant AND log.source = r.source AND log.id > r.after_line
            AND r.scope <> ALL (log.missing)
    ) AND NOT EXISTS (
        SELECT FROM meta_ad_accounts AS a
        WHERE r.source = 'meta' AND a.tenant_id = :tenant AND a.account_id = r.scope AND NOT a.enabled
    ) AND NOT EXISTS (
        SELECT FROM pos_shops AS a
        WHERE r.source = 'pos' AND a.tenant_id = :tenant AND a.shop_id = r.scope AND NOT a.enabled
    )
    ORDER BY 1, 2
"""
_OF_DAYS: Final = (
    _INCOMPLETE_DAYS.format(days="AND log.day = ANY(:days)", excluded="a.disabled_from <= latest.day")
    + "ORDER BY latest.day, latest.source, scope"
)


@dataclass(frozen=True, slots=True)
class StandingRefusal:
    """An account or shop that refuses, or that stored days lack.

    `message` says why it was last refused; None where that is not known.
    """

    source: str
    scope: str
    days: tuple[date, ...]
    message: str | None


def note_refusals(
    connection: sa.Connection,
    tenant_id: str,
    source: str,
    run_id: str,
    refused: Collection[tuple[str, str, dict[str, Any]]],
) -> None:
    """Make these the last refusals of their accounts or shops: scope, sentence and facts of each. In a transaction."""
    key = ["tenant_id", "source", "scope"]
    statement = insert(sync_refusals)
    changed = {c.name: statement.excluded[c.name] for c in sync_refusals.c if c.name not in key}
    log = sync_log.c
    last = sa.select(sa.func.coalesce(sa.func.max(log.id), 0)).where(log.tenant_id == tenant_id, log.source == source)
    fixed = {
        "tenant_id": tenant_id,
        "source": source,
        "run_id": run_id,
        "after_line": last.scalar_subquery(),
        "at": sa.func.now(),
    }
    rows = [{**fixed, "scope": scope, "message": message, "facts": facts} for scope, message, facts in refused]
    if rows:
        with connection.begin():
            connection.execute(statement.values(rows).on_conflict_do_update(index_elements=key, set_=changed))


def refusals_of_run(
    connection: sa.Connection, tenant_id: str, source: str, run_id: str
) -> list[tuple[str, dict[str, Any]]]:
    """Return the accounts or shops that have refused in a run, each with the facts of its error."""
    c = sync_refusals.c
    statement = (
        sa.select(c.scope, c.facts)
        .where(c.tenant_id == tenant_id, c.source == source, c.run_id == run_id)
        .order_by(c.scope)
    )
    with connection.begin():
        return [(row[0], row[1]) for row in connection.execute(statement)]


def missing_of_days(
    connection: sa.Connection, tenant_id: str, days: Collection[date]
) -> dict[date, list[tuple[str, str]]]:
    """Return of each incomplete day the accounts and shops, as (source, id), that figures count but it lacks.

    Runs in a transaction of the caller.
    """
    found: defaultdict[date, list[tuple[str, str]]] = defaultdict(list)
    for source, day, scope in connection.execute(sa.text(_OF_DAYS), {"tenant": tenant_id, "days": list(days)}):
        found[day].append((source, scope))
    return dict(found)


def standing_refusals(engine: sa.Engine, tenant_id: str) -> list[StandingRefusal]:
    """Return the enabled accounts and shops that refuse, or that stored days lack. Raises `WarehouseFailedError`."""
    with failing_clearly(), bound_to(engine, tenant_id) as connection:
        found = connection.execute(sa.text(_STANDING), {"tenant": tenant_id})
        return [StandingRefusal(source, scope, tuple(days), message) for source, scope, days, message in found]
