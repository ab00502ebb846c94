"""What metrics need to know of the sources of many tenants, in few and quick statements.

`sync_health` reads the whole sync log of a tenant. These statements find the same last complete day, and the same days
behind, by the index.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Final

import sqlalchemy as sa

from sync_pipeline.warehouse.completeness import IS_COMPLETE, last_over_day
from sync_pipeline.warehouse.counters import Counts
from sync_pipeline.warehouse.database import bound_to_each, failing_clearly

_FIGURES: Final = sa.text(f"""
    SELECT s.source, complete.day, greatest(newest.last_over_day - complete.day, 0)
    FROM tenants AS t
    CROSS JOIN unnest(CAST(:sources AS text[])) AS s (source)
    CROSS JOIN LATERAL (
        SELECT l.day FROM sync_log AS l
        WHERE l.tenant_id = t.tenant_id AND l.source = s.source AND {IS_COMPLETE}
        ORDER BY l.day DESC LIMIT 1
    ) AS complete
    CROSS JOIN LATERAL (
        SELECT {last_over_day("t.timezone")} AS last_over_day FROM sync_log AS l
        WHERE l.tenant_id = t.tenant_id AND l.source = s.source
        ORDER BY l.day DESC, l.id DESC LIMIT 1
    ) AS newest
    WHERE t.tenant_id = :tenant
""")
_COUNTERS: Final = sa.text("SELECT source, counter, class, total FROM sync_counters WHERE tenant_id = :tenant")
_TIMEZONES: Final = sa.text("""
    SELECT account_id, timezone_name FROM meta_ad_accounts
    WHERE tenant_id = :tenant AND enabled AND listed_run_id = (
        SELECT listed_run_id FROM meta_ad_accounts
        WHERE tenant_id = :tenant ORDER BY listed_at DESC NULLS LAST LIMIT 1
    )
""")


@dataclass(frozen=True, slots=True)
class TenantFigures:
    """The stored figures of a tenant by source; a source without a complete day is not in the first two.

    `since_last_over` counts days behind as `sync_health` does. `timezones` are those of the ad accounts that the next
    run fetches.
    """

    tenant_id: str
    last_complete: Mapping[str, date]
    since_last_over: Mapping[str, int]
    counts: Mapping[str, Counts] = field(default_factory=dict)
    timezones: Mapping[str, str | None] = field(default_factory=dict)


def tenant_figures(
    engine: sa.Engine, tenants: Mapping[str, Collection[str]], *, statement_timeout_s: float
) -> Iterator[TenantFigures]:
    """Yield the figures of tenants, which are given with their sources. Raises `WarehouseFailedError`."""
    with failing_clearly():
        for tenant_id, connection in bound_to_each(engine, tenants, statement_timeout_s=statement_timeout_s):
            yield figures_of(connection, tenant_id, tenants[tenant_id])


def figures_of(connection: sa.Connection, tenant_id: str, sources: Collection[str]) -> TenantFigures:
    """Return the figures of a tenant, in a transaction that is bound to it."""
    values = {"tenant": tenant_id, "sources": list(sources)}
    days = connection.execute(_FIGURES, values).all()
    counts: dict[str, dict[tuple[str, str], float]] = {}
    for source, counter, name, total in connection.execute(_COUNTERS, values):
        counts.setdefault(source, {})[counter, name] = total
    return TenantFigures(
        tenant_id,
        {source: last for source, last, _ in days},
        {source: behind for source, _, behind in days},
        counts,
        {row[0]: row[1] for row in connection.execute(_TIMEZONES, values)},
    )
