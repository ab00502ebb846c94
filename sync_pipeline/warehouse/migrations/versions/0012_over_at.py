"""Add to the sync log when each day was fetched and when it is over, and use both in `sync_health`."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None
# An older version would store days without `over_at`, which would count as complete too early.
additive = False

FETCHED_AT = "when the requests for the day began, those of a window of days with its first; null: at started"
OVER_AT = (
    "when the day is over in the tenant's timezone and in those of the ad accounts fetched; a day that was fetched "
    "earlier is not complete; null: when it is over in the tenant's timezone"
)
# A timezone that is missing, or that Postgres does not know, counts as UTC-12, where days end last.
ZONES = """
CREATE TEMPORARY TABLE stored_zones ON COMMIT DROP AS
SELECT stored.timezone, coalesce(known.name, 'Etc/GMT+12') AS zone
FROM (SELECT timezone FROM tenants UNION SELECT timezone_name FROM meta_ad_accounts) AS stored
LEFT JOIN pg_timezone_names AS known
    ON known.name = stored.timezone AND known.name NOT IN ('Factory', 'localtime', 'posixrules')
"""
# Of a midnight that comes twice, Postgres takes the second, which is an hour late unless clocks go back across it.
ENDS = """
CREATE TEMPORARY TABLE day_ends ON COMMIT DROP AS
SELECT days.day, zones.zone,
    CASE
        WHEN ((midnight.at - interval '1 microsecond') AT TIME ZONE zones.zone)::date > days.day
        THEN midnight.at - interval '1 hour' ELSE midnight.at
    END AS at
FROM (SELECT DISTINCT day FROM sync_log) AS days
CROSS JOIN (SELECT zone FROM stored_zones UNION SELECT 'Etc/GMT+12') AS zones
CROSS JOIN LATERAL (SELECT (days.day + 1)::timestamp AT TIME ZONE zones.zone AS at) AS midnight
"""
# The ad accounts fetched are those whose totals are noted, or could not be read. A line without totals counts as
# fetched from every account of the tenant.
FILL = """
UPDATE sync_log AS l SET fetched_at = found.fetched_at, over_at = found.over_at
FROM (
    SELECT line.id, line.fetched_at, greatest(of_tenant.at, of_accounts.at) AS over_at
    FROM (
        SELECT id, tenant_id, source, day, reported, coalesce(
            max(started) FILTER (WHERE requests > 0) OVER (PARTITION BY tenant_id, source, run_id ORDER BY id), started
        ) AS fetched_at
        FROM sync_log
    ) AS line
    JOIN tenants AS t ON t.tenant_id = line.tenant_id
    JOIN stored_zones AS tenant_zone ON tenant_zone.timezone = t.timezone
    JOIN day_ends AS of_tenant ON of_tenant.day = line.day AND of_tenant.zone = tenant_zone.zone
    LEFT JOIN LATERAL (
        SELECT max(ends.at) AS at
        FROM (
            SELECT jsonb_object_keys(
                CASE WHEN jsonb_typeof(line.reported) = 'object' THEN line.reported END
            ) AS account_id
            UNION SELECT r.account_id FROM rejected_rows AS r
            WHERE r.tenant_id = line.tenant_id AND r.source = 'meta' AND r.day = line.day AND r.kind = 'account day'
            UNION SELECT a.account_id FROM meta_ad_accounts AS a
            WHERE a.tenant_id = line.tenant_id AND jsonb_typeof(line.reported) IS DISTINCT FROM 'object'
        ) AS fetched
        LEFT JOIN meta_ad_accounts AS a ON a.tenant_id = line.tenant_id AND a.account_id = fetched.account_id
        LEFT JOIN stored_zones AS account_zone ON account_zone.timezone = a.timezone_name
        JOIN day_ends AS ends ON ends.day = line.day AND ends.zone = coalesce(account_zone.zone, 'Etc/GMT+12')
        WHERE line.source = 'meta'
    ) AS of_accounts ON true
) AS found
WHERE l.id = found.id
"""
# A day is complete once all its rows were read after it was over in all of its timezones. Of the days that are behind,
# the newest is the last one that is over by now in the timezones of the newest stored day.
SYNC_HEALTH = """
CREATE OR REPLACE VIEW sync_health WITH (security_invoker = true) AS
SELECT
    tenant_id, source, log.last_complete_day,
    CASE
        WHEN log.last_complete_day IS NOT NULL THEN greatest(newest.last_over_day - log.last_complete_day, 0)
    END AS days_behind,
    log.last_complete_day - log.first_complete_day + 1 - log.complete_days AS days_missing,
    run.rows, run.requests, run.finished, run.run_id,
    error.message AS last_error, error.day AS last_error_day, error.code AS last_error_code,
    error.at AS last_error_at, error.run_id AS last_error_run_id
FROM (
    SELECT
        l.tenant_id, l.source, t.timezone, max(l.id) AS last_line,
        min(l.day) FILTER (WHERE seen.is_complete) AS first_complete_day,
        max(l.day) FILTER (WHERE seen.is_complete) AS last_complete_day,
        count(DISTINCT l.day) FILTER (WHERE seen.is_complete) AS complete_days
    FROM sync_log AS l
    JOIN tenants AS t ON t.tenant_id = l.tenant_id
    CROSS JOIN LATERAL (SELECT
        l.complete AND (
            (least(coalesce(l.fetched_at, l.started), now()) >= l.over_at) IS NOT FALSE
            AND (least(coalesce(l.fetched_at, l.started), now()) AT TIME ZONE t.timezone)::date > l.day
        ) AS is_complete
    ) AS seen
    GROUP BY l.tenant_id, l.source, t.timezone
) AS log
FULL JOIN (
    SELECT e.* FROM sync_errors AS e
    WHERE NOT EXISTS (
        SELECT FROM sync_log AS l
        WHERE l.tenant_id = e.tenant_id AND l.source = e.source AND l.id > e.after_line
        AND (e.day IS NULL OR l.day >= e.day)
    )
) AS error USING (tenant_id, source)
LEFT JOIN LATERAL (
    SELECT sum(l.rows)::bigint AS rows, sum(l.requests)::bigint AS requests, max(l.finished) AS finished, l.run_id
    FROM sync_log AS l
    WHERE l.tenant_id = log.tenant_id AND l.source = log.source
    AND l.run_id = (SELECT last.run_id FROM sync_log AS last WHERE last.id = log.last_line)
    GROUP BY l.run_id
) AS run ON true
LEFT JOIN LATERAL (
    SELECT ((now() - greatest(l.over_at - (l.day + 1)::timestamp AT TIME ZONE log.timezone, interval '0'))
        AT TIME ZONE log.timezone)::date - 1 AS last_over_day
    FROM sync_log AS l
    WHERE l.tenant_id = log.tenant_id AND l.source = log.source
    ORDER BY l.day DESC, l.id DESC LIMIT 1
) AS newest ON true
"""


def upgrade() -> None:
    """Add the columns, fill them from the stored timezones, and replace the view."""
    op.add_column("sync_log", sa.Column("fetched_at", sa.DateTime(timezone=True), nullable=True, comment=FETCHED_AT))
    op.add_column("sync_log", sa.Column("over_at", sa.DateTime(timezone=True), nullable=True, comment=OVER_AT))
    for table, statement, key in (("stored_zones", ZONES, "timezone"), ("day_ends", ENDS, "day, zone")):
        op.execute(statement)
        op.execute(f"CREATE INDEX ON {table} ({key})")
        op.execute(f"ANALYZE {table}")
    op.execute(FILL)
    for table in ("stored_zones", "day_ends"):
        op.execute(f"DROP TABLE {table}")
    op.execute(SYNC_HEALTH)
