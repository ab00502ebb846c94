"""A database of version 0.1.0 keeps its figures when it is migrated, but for intended differences."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL

from sync_pipeline.warehouse import database, migrate
from sync_pipeline_tests.fixtures.v0_1_0 import restore
from sync_pipeline_tests.fixtures.v0_1_0.restore import Databases, Row, canonical, digests, figures
from sync_pipeline_tests.pipeline import all_seeing


@dataclass(frozen=True)
class Difference:
    """A change of stored figures that a migration makes on purpose; CHANGELOG.md lists each.

    `column` has other values, or is gone; without one the whole table or view has other rows, or is gone.
    """

    relation: str
    column: str | None
    why: str


PERFORMANCE = (
    "ad_performance",
    "ad_performance_by_associate",
    "ad_performance_by_campaign",
    "ad_performance_by_mapping",
)
# New tables, views and columns need no entry.
INTENDED_DIFFERENCES: tuple[Difference, ...] = (
    Difference("pos_orders", "data", "only listed fields of an order are stored"),
    Difference("order_attribution", "status_group", "status groups follow the vendor's list"),
    *(
        Difference(relation, f"{group}_{what}", "status groups follow the vendor's list")
        for relation in PERFORMANCE
        for group in ("unconfirmed", "confirmed", "waiting_pickup", "returned", "other")
        for what in ("orders", "amount")
    ),
    *(
        Difference(relation, rate, "the rate is of settled orders, no longer of sent ones")
        for relation in PERFORMANCE
        for rate in ("delivery_rate", "return_rate")
    ),
)
# A day is over later where lumina's ad account in Los Angeles ends it last: at most hours of a day, not at all of them.
DIFFERENCES_AT_TIMES: tuple[Difference, ...] = (
    Difference("sync_health", "days_behind", "the newest day that can be complete is over in all of its timezones"),
)

NAMES = ("lumina__daily_sync_schedule", "mekong__daily_sync_schedule")
STATES = ("STOPPED", "RUNNING")
# How dagster-authkit 1.2 stores roles.
LEVELS = {"viewer": 10, "launcher": 20, "admin": 40}


@pytest.fixture(scope="module")
def untouched(server: URL) -> Iterator[sa.Engine]:
    """The warehouse of version 0.1.0, as an engine that sees all tenants; tests only read it."""
    with restore.restored(server) as copy:
        yield from _all_seeing_engine(copy.warehouse)


@pytest.fixture(scope="module")
def migrated(server: URL) -> Iterator[sa.Engine]:
    """Another copy of it, migrated as its owner does; tests only read it."""
    with restore.restored(server) as copy:
        owner = database.connect(copy.warehouse)
        assert migrate.migrate(owner)[0] == "0005"
        owner.dispose()
        yield from _all_seeing_engine(copy.warehouse)


def _all_seeing_engine(url: URL) -> Iterator[sa.Engine]:
    engine = database.connect(all_seeing(url))
    yield engine
    engine.dispose()


def test_the_dump_restores_every_figure(untouched: sa.Engine) -> None:
    assert digests(untouched) == restore.stored_digests()
    with untouched.connect() as connection:
        days = "SELECT tenant_id, source, count(DISTINCT day) FROM sync_log GROUP BY 1, 2 ORDER BY 1, 2"
        assert connection.execute(sa.text(days)).all() == [
            ("lumina", "meta", 30),
            ("lumina", "pos", 30),
            ("mekong", "meta", 30),
            ("mekong", "pos", 30),
        ]


def test_a_migration_changes_no_other_figure(untouched: sa.Engine, migrated: sa.Engine) -> None:
    # Both are read after the migration, since views that look at the present day do not change overnight then.
    intended = (*INTENDED_DIFFERENCES, *DIFFERENCES_AT_TIMES)
    assert list(differences(figures(untouched), figures(migrated), intended)) == []


# What the columns with other values were before, in the columns there are now.
BEFORE = {
    "delivery_rate": "delivery_rate_of_sent",
    "return_rate": "return_rate_of_sent",
    "returned_orders": "partly_returned_orders + returning_orders + returned_orders",
    "returned_amount": "partly_returned_amount + returning_amount + returned_amount",
    "unconfirmed_orders + confirmed_orders + waiting_pickup_orders + other_orders": (
        "unconfirmed_orders + restocking_orders + confirmed_orders + waiting_pickup_orders + other_orders"
    ),
    "unconfirmed_amount + confirmed_amount + waiting_pickup_amount + other_amount": (
        "unconfirmed_amount + restocking_amount + confirmed_amount + waiting_pickup_amount + other_amount"
    ),
}


@pytest.mark.parametrize("relation", PERFORMANCE)
def test_changed_groups_and_rates_sum_up_to_the_former(
    untouched: sa.Engine, migrated: sa.Engine, relation: str
) -> None:
    statement = "SELECT tenant_id, date, ad_cost, orders, {} FROM {}"
    with untouched.connect() as before, migrated.connect() as after:
        old = before.execute(sa.text(statement.format(", ".join(BEFORE), relation))).all()
        new = after.execute(sa.text(statement.format(", ".join(BEFORE.values()), relation))).all()
    assert Counter(map(str, old)) == Counter(map(str, new))
    assert len(old) > 60


def test_a_migration_leaves_what_needs_settings_unknown(migrated: sa.Engine) -> None:
    query = """
        SELECT count(*), count(rules), count(realised_margin), count(projected_margin), count(contribution_margin)
        FROM ad_performance
    """
    with migrated.connect() as connection:
        assert connection.execute(sa.text(query)).one() == (831, 0, 0, 0, 831)


# Each gives a name and a definition of what it finds in the schema.
SCHEMA = {
    "columns": """
        SELECT table_name || '.' || column_name, concat_ws(' ', data_type, is_nullable, column_default, is_identity)
        FROM information_schema.columns WHERE table_schema = 'public'
    """,
    "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "constraints": """
        SELECT conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    """,
    "views": "SELECT viewname, definition FROM pg_views WHERE schemaname = 'public'",
    "policies": "SELECT tablename || '.' || policyname, concat_ws(' ', cmd, roles, qual, with_check) FROM pg_policies",
    "triggers": """
        SELECT tgrelid::regclass || '.' || tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
    """,
    "functions": """
        SELECT oid::regprocedure::text, prosrc FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace AND prokind = 'f'
    """,
    "row-level security": """
        SELECT relname, concat_ws(' ', relrowsecurity, relforcerowsecurity)
        FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
    """,
    "comments": """
        SELECT objoid::regclass || '.' || objsubid, description FROM pg_description
        WHERE classoid = 'pg_class'::regclass AND objoid >= 16384
    """,
}


def test_a_migrated_warehouse_has_the_schema_of_a_fresh_one(migrated: sa.Engine, engine: sa.Engine) -> None:
    for part, query in SCHEMA.items():
        with migrated.connect() as old, engine.connect() as fresh:
            found, expected = (dict(one.execute(sa.text(query)).all()) for one in (old, fresh))  # type: ignore[arg-type]
        assert found == expected, part
        assert expected, part


def test_every_intended_difference_exists(untouched: sa.Engine, migrated: sa.Engine) -> None:
    before, after = figures(untouched), figures(migrated)
    for difference in INTENDED_DIFFERENCES:
        others = tuple(other for other in INTENDED_DIFFERENCES if other != difference)
        old, new = ({difference.relation: rows[difference.relation]} for rows in (before, after))
        assert list(differences(old, new, (*others, *DIFFERENCES_AT_TIMES))), difference


@pytest.mark.parametrize(
    ("after", "found"),
    [
        ({"t": [{"id": 1, "spend": 5}, {"id": 2, "spend": 7}], "new": []}, []),
        ({"t": [{"id": 2, "spend": 7, "new": 0}, {"id": 1, "spend": 5, "new": 0}]}, []),
        ({"t": [{"id": 1, "spend": Decimal(5)}, {"id": 2, "spend": Decimal(7)}]}, []),
        ({}, ["t is gone"]),
        ({"t": [{"id": 1}, {"id": 2}]}, ["t.spend is gone"]),
        ({"t": [{"id": 1, "spend": 5}]}, ['t lost {"id": 2, "spend": 7}']),
        ({"t": [{"id": 1, "spend": 5}] * 2 + [{"id": 2, "spend": 7}]}, ['t has new {"id": 1, "spend": 5}']),
        (
            {"t": [{"id": 1, "spend": 5}, {"id": 2, "spend": 8}]},
            ['t lost {"id": 2, "spend": 7}', 't has new {"id": 2, "spend": 8}'],
        ),
    ],
)
def test_the_comparison_finds_every_kind_of_difference(after: dict[str, list[Row]], found: list[str]) -> None:
    before = {"t": [{"id": 1, "spend": 5}, {"id": 2, "spend": 7}]}
    assert list(differences(before, after, ())) == found


@pytest.mark.parametrize("column", ["spend", None])
def test_the_comparison_accepts_an_intended_difference(column: str | None) -> None:
    before = {"t": [{"id": 1, "spend": 5}]}
    after = {"t": [{"id": 1, "spend": 6}]}
    assert list(differences(before, after, (Difference("t", column, "a reason"),))) == []


def test_restored_users_and_switched_schedules_are_present(database_v0_1_0: Databases) -> None:
    engine = database.connect(database_v0_1_0.dagster)
    with engine.connect() as connection:
        users = connection.execute(sa.text("SELECT username, role FROM users ORDER BY 1")).all()
        switched = connection.execute(sa.text("SELECT instigator_body FROM instigators")).scalars().all()
    engine.dispose()
    assert users == [(name, LEVELS[role]) for name, (role, _) in restore.USERS.items()]
    states = {
        (name, state) for name in NAMES for state in STATES for body in switched if name in body and state in body
    }
    assert states == {("lumina__daily_sync_schedule", "STOPPED"), ("mekong__daily_sync_schedule", "RUNNING")}


def differences(
    before: dict[str, list[Row]], after: dict[str, list[Row]], intended: tuple[Difference, ...]
) -> Iterator[str]:
    """What the figures have lost and gained, a line each, apart from what is intended and from what is only new."""
    whole = {difference.relation for difference in intended if difference.column is None}
    for relation in sorted(before.keys() - whole):
        if relation not in after:
            yield f"{relation} is gone"
            continue
        excused = {difference.column for difference in intended if difference.relation == relation}
        columns = columns_of(before[relation]) - excused
        gone = columns - columns_of(after[relation]) if after[relation] else set()
        yield from (f"{relation}.{column} is gone" for column in sorted(gone))
        old, new = (counted(rows, columns - gone) for rows in (before[relation], after[relation]))
        yield from (f"{relation} lost {row}" for row in sorted((old - new).elements()))
        yield from (f"{relation} has new {row}" for row in sorted((new - old).elements()))


def columns_of(rows: list[Row]) -> set[str]:
    return set(rows[0]) if rows else set()


def counted(rows: list[Row], columns: set[str]) -> Counter[str]:
    return Counter(canonical({name: number(row[name]) for name in columns}) for row in rows)


def number(value: object) -> object:
    """Return a decimal without decimal places as an integer: a column of another numeric type has the same figures."""
    return int(value) if isinstance(value, Decimal) and value.as_tuple().exponent == 0 else value
