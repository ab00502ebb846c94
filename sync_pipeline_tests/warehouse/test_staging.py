"""A day goes into its table whole: new rows, changed rows, vanished rows, and its line in the sync log."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sync_pipeline.rows.meta import InsightRow
from sync_pipeline.warehouse import bulk
from sync_pipeline.warehouse.schema import INSIGHTS, ORDERS, meta_ad_insights, sync_log, tenants
from sync_pipeline.warehouse.staging import DayEntry, DayResult, Staging
from sync_pipeline.warehouse.tenancy import TenantWarehouse, Warehouse

DAY = date(2026, 10, 6)
NEXT_DAY = date(2026, 10, 7)


def insight(
    ad_id: str, *, day: date = DAY, account_id: str = "111", spend: str = "10.00", name: str = "ad"
) -> InsightRow:
    return InsightRow(
        account_id=account_id,
        ad_id=ad_id,
        date=day,
        campaign_id="1",
        campaign_name="campaign",
        adset_id="2",
        adset_name="ad set",
        ad_name=name,
        marketing_associate=None,
        spend=Decimal(spend),
        impressions=100,
        clicks=10,
        link_clicks=5,
        leads=1,
        mapping=None,
        currency="PHP",
    )


def entry(day: date = DAY, **changes: object) -> DayEntry:
    values = {"excluded": 0, "requests": 1, "complete": True, "started": datetime.now(UTC), **changes}
    return DayEntry(source="meta", day=day, run_id="run-1", **values)  # type: ignore[arg-type]


@pytest.fixture
def acme(engine: sa.Engine) -> Iterator[TenantWarehouse]:
    with Warehouse(engine).tenant("acme", name="Acme", timezone="Asia/Manila") as held:
        yield held


def staging(held: TenantWarehouse) -> Staging:
    return held.staging(
        INSIGHTS, InsightRow._fields, lookup_key=("account_id", "ad_id"), lookup=("status", "effective_status")
    )


def sync(
    held: TenantWarehouse, rows: list[InsightRow], *, day: date = DAY, scopes: tuple[str, ...] = ("111",)
) -> DayResult:
    with staging(held) as stage:
        stage.add(rows)
        return stage.commit_day(entry(day), scopes)


def stored(engine: sa.Engine, *columns: str) -> list[tuple[object, ...]]:
    table = meta_ad_insights.c
    with engine.connect() as connection:
        statement = sa.select(*(table[name] for name in columns)).order_by(table.date, table.account_id, table.ad_id)
        return [tuple(row) for row in connection.execute(statement)]


def test_a_day_is_stored_with_its_figures(acme: TenantWarehouse, engine: sa.Engine) -> None:
    commit = sync(acme, [insight("a", spend="1.50"), insight("b", spend="2.25")])
    assert (commit.rows, commit.changed, commit.removed, commit.amount) == (2, 2, 0, Decimal("3.75"))
    assert stored(engine, "tenant_id", "ad_id", "spend") == [
        ("acme", "a", Decimal("1.50")),
        ("acme", "b", Decimal("2.25")),
    ]


def test_storing_the_same_day_again_changes_nothing(acme: TenantWarehouse, engine: sa.Engine) -> None:
    rows = [insight("a"), insight("b")]
    sync(acme, rows)
    with engine.connect() as connection:
        before = connection.execute(sa.text("SELECT ctid, xmin, ad_id FROM meta_ad_insights ORDER BY ad_id")).all()
    assert sync(acme, rows).changed == 0
    with engine.connect() as connection:
        after = connection.execute(sa.text("SELECT ctid, xmin, ad_id FROM meta_ad_insights ORDER BY ad_id")).all()
    assert after == before, "an unchanged row must not be written again"


def test_a_changed_row_is_replaced_and_a_vanished_one_removed(acme: TenantWarehouse, engine: sa.Engine) -> None:
    sync(acme, [insight("a"), insight("b")])
    commit = sync(acme, [insight("a", spend="99.00")])
    assert (commit.rows, commit.changed, commit.removed) == (1, 1, 1)
    assert stored(engine, "ad_id", "spend") == [("a", Decimal("99.00"))]


def test_removal_leaves_other_days_accounts_and_tenants_alone(engine: sa.Engine) -> None:
    warehouse = Warehouse(engine)
    with warehouse.tenant("other", name="Other", timezone="Asia/Manila") as other:
        sync(other, [insight("a")])
    with warehouse.tenant("acme", name="Acme", timezone="Asia/Manila") as acme:
        sync(acme, [insight("a"), insight("b", account_id="222")], scopes=("111", "222"))
        sync(acme, [insight("a", day=NEXT_DAY)], day=NEXT_DAY)
        assert sync(acme, []).removed == 1
    assert stored(engine, "tenant_id", "account_id", "ad_id", "date") == [
        ("other", "111", "a", DAY),
        ("acme", "222", "b", DAY),
        ("acme", "111", "a", NEXT_DAY),
    ]


def test_nothing_is_removed_for_an_account_whose_rows_were_not_all_read(
    acme: TenantWarehouse, engine: sa.Engine
) -> None:
    sync(acme, [insight("a"), insight("b")])
    with staging(acme) as stage:
        stage.add([insight("a", spend="5.00")])
        stage.commit_day(entry(complete=False), complete_scopes=())
    assert stored(engine, "ad_id", "spend") == [("a", Decimal("5.00")), ("b", Decimal("10.00"))]


def test_of_a_row_that_comes_twice_the_later_one_counts(acme: TenantWarehouse, engine: sa.Engine) -> None:
    with staging(acme) as stage:
        stage.add([insight("a", spend="1.00"), insight("a", spend="2.00")])
        stage.add([insight("a", spend="3.00")])
        commit = stage.commit_day(entry(), ("111",))
    assert (commit.rows, commit.amount) == (1, Decimal("3.00"))
    assert stored(engine, "spend") == [(Decimal("3.00"),)]


ORDER_COLUMNS = (
    *("shop_id", "pos_order_id", "inserted_at", "date_local", "total", "cod", "cogs", "uncosted_quantity"),
    *("total_quantity", "data"),
)


def order(order_id: str, total: str) -> tuple[object, ...]:
    inserted_at = datetime(2026, 10, 6, 3, tzinfo=UTC)
    return ("7", order_id, inserted_at, DAY, Decimal(total), 0, 0, 0, 1, "{}")


@pytest.mark.parametrize("buffer", [1, bulk.ENOUGH], ids=["a buffer per page", "one buffer"])
@pytest.mark.parametrize("totals", [("1.00", "2.00", "3.00"), ("3.00", "2.00", "1.00"), ("2.00", "3.00", "1.00")])
def test_the_last_copy_of_a_repeated_order_is_stored(
    acme: TenantWarehouse,
    engine: sa.Engine,
    monkeypatch: pytest.MonkeyPatch,
    totals: tuple[str, str, str],
    buffer: int,
) -> None:
    monkeypatch.setattr(bulk, "ENOUGH", buffer)
    with acme.staging(ORDERS, ORDER_COLUMNS) as stage:
        for total in totals:
            stage.add([order("1", total), order("2", "5.00")])
        commit = stage.commit_day(entry(), ("7",))
    assert (commit.rows, commit.amount) == (2, Decimal(totals[-1]) + 5)
    with engine.connect() as connection:
        stored_orders = connection.execute(sa.text("SELECT pos_order_id, total FROM pos_orders ORDER BY 1")).all()
    assert stored_orders == [("1", Decimal(totals[-1])), ("2", Decimal("5.00"))]


def test_statuses_are_joined_by_ad_and_asked_for_once(acme: TenantWarehouse, engine: sa.Engine) -> None:
    with staging(acme) as stage:
        stage.add([insight("a"), insight("b")])
        assert stage.keys_without_lookup("111") == ["a", "b"]
        stage.add_lookup([("111", "a", "ACTIVE", "CAMPAIGN_PAUSED"), ("111", "b", None, None)])
        stage.commit_day(entry(), ("111",))
        stage.clear()
        stage.add([insight("a", day=NEXT_DAY), insight("c", day=NEXT_DAY)])
        assert stage.keys_without_lookup("111") == ["c"]
        stage.commit_day(entry(NEXT_DAY), ("111",))
    assert stored(engine, "date", "ad_id", "status", "effective_status") == [
        (DAY, "a", "ACTIVE", "CAMPAIGN_PAUSED"),
        (DAY, "b", None, None),
        (NEXT_DAY, "a", "ACTIVE", "CAMPAIGN_PAUSED"),
        (NEXT_DAY, "c", None, None),
    ]


def test_a_key_without_lookup_keeps_its_stored_values(acme: TenantWarehouse, engine: sa.Engine) -> None:
    with staging(acme) as stage:
        stage.add([insight("a"), insight("b"), insight("c")])
        stage.add_lookup(("111", ad_id, "ACTIVE", "ACTIVE") for ad_id in "abc")
        stage.commit_day(entry(), ("111",))
    with staging(acme) as stage:
        stage.add([insight("a"), insight("b", spend="7.00"), insight("c"), insight("d")])
        stage.add_lookup([("111", "c", None, None)])
        commit = stage.commit_day(entry(), ("111",))
    assert stored(engine, "ad_id", "spend", "status", "effective_status") == [
        ("a", Decimal("10.00"), "ACTIVE", "ACTIVE"),
        ("b", Decimal("7.00"), "ACTIVE", "ACTIVE"),
        ("c", Decimal("10.00"), None, None),
        ("d", Decimal("10.00"), None, None),
    ]
    assert (commit.rows, commit.changed) == (4, 3), "the row of a is the same as before"


def test_of_lookup_values_that_come_twice_the_last_count(acme: TenantWarehouse, engine: sa.Engine) -> None:
    with staging(acme) as stage:
        stage.add([insight("a", spend="60.00"), part("a", adset_id="3", spend="40.00")])
        stage.add_lookup([("111", "a", "ACTIVE", "ACTIVE"), ("111", "a", "PAUSED", "PAUSED")])
        commit = stage.commit_day(entry(), ("111",))
    assert (commit.rows, commit.amount) == (1, Decimal("100.00"))
    assert stored(engine, "spend", "status") == [(Decimal("100.00"), "PAUSED")]


# An ad in several ad sets or campaigns


def part(
    ad_id: str, *, campaign_id: str = "1", adset_id: str = "2", spend: str = "10.00", day: date = DAY
) -> InsightRow:
    """An ad's row whose names say which part it is."""
    named = f"{campaign_id}/{adset_id}"
    return insight(ad_id, day=day, spend=spend)._replace(
        campaign_id=campaign_id, campaign_name=named, adset_id=adset_id, adset_name=named, ad_name=named
    )


PARTS = ("ad_id", "spend", "impressions", "clicks", "link_clicks", "leads", "campaign_id", "adset_id", "ad_name")


@pytest.mark.parametrize(
    "other", [{"adset_id": "3"}, {"campaign_id": "3"}, {"campaign_id": "3", "adset_id": "3"}], ids=str
)
@pytest.mark.parametrize("reverse", [False, True])
def test_parts_of_an_ad_are_added_up(
    acme: TenantWarehouse, engine: sa.Engine, other: dict[str, str], reverse: bool
) -> None:
    rows = [part("a", spend="40.00"), part("a", spend="60.00", **other), part("b", spend="5.00")]
    commit = sync(acme, rows[::-1] if reverse else rows)
    assert (commit.rows, commit.changed, commit.amount) == (2, 2, Decimal("105.00"))
    ids = (other.get("campaign_id", "1"), other.get("adset_id", "2"))
    assert stored(engine, *PARTS) == [
        ("a", Decimal("100.00"), 200, 20, 10, 2, *ids, "/".join(ids)),
        ("b", Decimal("5.00"), 100, 10, 5, 1, "1", "2", "1/2"),
    ]


def test_a_rename_between_two_pages_is_the_same_row(acme: TenantWarehouse, engine: sa.Engine) -> None:
    renamed = part("a")._replace(campaign_name="new campaign", adset_name="new ad set", ad_name="new ad")
    with staging(acme) as stage:
        stage.add([part("a")])
        stage.add([renamed])
        commit = stage.commit_day(entry(), ("111",))
    assert (commit.rows, commit.amount) == (1, Decimal("10.00"))
    assert stored(engine, "spend", "campaign_name", "adset_name", "ad_name") == [
        (Decimal("10.00"), "new campaign", "new ad set", "new ad")
    ]


@pytest.mark.parametrize("reverse", [False, True])
def test_of_parts_with_equal_spend_the_lower_ids_count(acme: TenantWarehouse, engine: sa.Engine, reverse: bool) -> None:
    rows = [part("a", campaign_id=campaign, adset_id=adset) for campaign in "12" for adset in "34"]
    sync(acme, rows[::-1] if reverse else rows)
    assert stored(engine, "spend", "campaign_id", "adset_id") == [(Decimal("40.00"), "1", "3")]


def test_parts_that_come_again_in_later_buffers_count_once(
    acme: TenantWarehouse, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "ENOUGH", 1)
    with staging(acme) as stage:
        for spend in ("1.00", "60.00"):
            stage.add([part("a", spend=spend)])
            stage.add([part("a", adset_id="3", spend="40.00")])
            assert stage.rows_of(DAY) == 2
        commit = stage.commit_day(entry(), ("111",))
    assert (commit.rows, commit.amount) == (1, Decimal("100.00"))
    assert stored(engine, "ad_name") == [("1/2",)]


def test_parts_stored_again_change_nothing_until_one_is_gone(acme: TenantWarehouse, engine: sa.Engine) -> None:
    rows = [part("a", spend="60.00"), part("a", adset_id="3", spend="40.00")]
    sync(acme, rows)
    assert sync(acme, rows[::-1]).changed == 0
    commit = sync(acme, rows[1:])
    assert (commit.rows, commit.changed, commit.removed) == (1, 1, 0)
    assert stored(engine, "spend", "adset_id") == [(Decimal("40.00"), "3")]


def test_parts_on_other_days_and_of_other_accounts_stay_apart(acme: TenantWarehouse, engine: sa.Engine) -> None:
    rows = [
        part("a", spend="1.00"),
        part("a", adset_id="3", spend="2.00"),
        part("a", adset_id="3", spend="4.00", day=NEXT_DAY),
        part("a", adset_id="3", spend="8.00")._replace(account_id="222"),
    ]
    with staging(acme) as stage:
        stage.add(rows)
        amounts = [stage.commit_day(entry(day), ("111", "222")).amount for day in (DAY, NEXT_DAY)]
    assert amounts == [Decimal("11.00"), Decimal("4.00")]
    assert [row[-1] for row in stored(engine, "account_id", "date", "spend")] == [
        Decimal("3.00"),
        Decimal("8.00"),
        Decimal("4.00"),
    ]


insights = st.builds(
    lambda ad_id, day, campaign_id, adset_id, counts, name: insight(
        ad_id, day=day, spend=str(Decimal(counts[0]) / 100), name=name
    )._replace(
        campaign_id=campaign_id,
        adset_id=adset_id,
        impressions=counts[1],
        clicks=counts[2],
        link_clicks=counts[3],
        leads=counts[4],
    ),
    ad_id=st.sampled_from("ab"),
    day=st.sampled_from([DAY, NEXT_DAY]),
    campaign_id=st.sampled_from(["1", "2", None]),
    adset_id=st.sampled_from(["1", "2", None]),
    counts=st.tuples(*[st.integers(0, 3)] * 5),
    name=st.sampled_from(["old name", "new name"]),
)


def added_up(rows: Sequence[InsightRow]) -> list[InsightRow]:
    """What is to be stored of these rows, by day and ad: the last version of each part, added up."""
    last = {(row.date, row.ad_id, row.campaign_id, row.adset_id): row for row in rows}
    parts: defaultdict[tuple[date, str], list[InsightRow]] = defaultdict(list)
    for row in last.values():
        parts[row.date, row.ad_id].append(row)
    return [_whole(parts[key]) for key in sorted(parts)]


def _whole(parts: Sequence[InsightRow]) -> InsightRow:
    def rank(row: InsightRow) -> tuple[Decimal, bool, str, bool, str]:
        campaign_id, adset_id = row.campaign_id, row.adset_id
        return -row.spend, campaign_id is None, campaign_id or "", adset_id is None, adset_id or ""

    figures = ("spend", "impressions", "clicks", "link_clicks", "leads")
    return min(parts, key=rank)._replace(**{name: sum(getattr(row, name) for row in parts) for name in figures})


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    earlier=st.lists(insights, max_size=6),
    rows=st.lists(insights, max_size=12),
    repeated=st.lists(st.integers(0, 11), max_size=6),
    page=st.integers(1, 5),
    buffer=st.sampled_from([1, 300, bulk.ENOUGH]),
)
# Parts without ids beside others of the same spend, and a part that comes again with other figures.
@example(
    earlier=[],
    rows=[insight("a")._replace(campaign_id=c, adset_id=s) for c in (None, "1", "2") for s in (None, "2", "1")],
    repeated=[0, 4],
    page=2,
    buffer=1,
)
@example(
    earlier=[insight("b", spend="3.00")],
    rows=[insight("a", spend=spend, name=spend)._replace(leads=leads) for spend, leads in (("2.00", 1), ("1.00", 3))],
    repeated=[],
    page=1,
    buffer=bulk.ENOUGH,
)
def test_any_order_pages_and_repeats_store_the_sums_of_parts(
    acme: TenantWarehouse,
    engine: sa.Engine,
    earlier: list[InsightRow],
    rows: list[InsightRow],
    repeated: list[int],
    page: int,
    buffer: int,
) -> None:
    rows = rows + [rows[place] for place in repeated if place < len(rows)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bulk, "ENOUGH", buffer)
        for version in (earlier, rows, rows):
            with staging(acme) as stage:
                for start in range(0, len(version), page):
                    stage.add(version[start : start + page])
                results = [stage.commit_day(entry(day), ("111",)) for day in (DAY, NEXT_DAY)]
    expected = added_up(rows)
    assert [InsightRow(*row) for row in stored(engine, *InsightRow._fields)] == expected  # type: ignore[arg-type]
    assert [result.amount for result in results] == [
        sum((row.spend for row in expected if row.date == day), Decimal(0)) for day in (DAY, NEXT_DAY)
    ]
    assert {(result.changed, result.removed) for result in results} == {(0, 0)}, "the same rows again"


def test_the_sync_log_gets_its_row_in_the_same_transaction(acme: TenantWarehouse, engine: sa.Engine) -> None:
    sync(acme, [insight("a", spend="4.00")])
    with engine.connect() as connection:
        logged = connection.execute(sa.select(sync_log)).one()
    assert (logged.tenant_id, logged.source, logged.day, logged.run_id) == ("acme", "meta", DAY, "run-1")
    assert (logged.rows, logged.changed, logged.removed, logged.amount) == (1, 1, 0, Decimal("4.00"))
    assert logged.started <= logged.finished

    out_of_range = entry(requests=2**40)
    with staging(acme) as stage:
        stage.add([insight("b")])
        with pytest.raises(sa.exc.DBAPIError):
            stage.commit_day(out_of_range, ("111",))
    assert stored(engine, "ad_id") == [("a",)], "without its log row the day must not be stored either"


def test_deleting_a_tenant_deletes_its_rows(acme: TenantWarehouse, engine: sa.Engine) -> None:
    sync(acme, [insight("a")])
    with engine.begin() as connection:
        connection.execute(sa.delete(tenants).where(tenants.c.tenant_id == "acme"))
        left = [
            connection.execute(sa.select(sa.func.count()).select_from(t)).scalar() for t in (meta_ad_insights, sync_log)
        ]
    assert left == [0, 0]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    earlier=st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 10**9)),
    later=st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 10**9)),
    page=st.integers(1, 4),
    repeats=st.integers(0, 3),
)
def test_whatever_was_there_before_and_however_rows_come_the_table_is_what_the_api_said(
    acme: TenantWarehouse,
    engine: sa.Engine,
    earlier: dict[str, int],
    later: dict[str, int],
    page: int,
    repeats: int,
) -> None:
    sync(acme, [insight(ad, spend=str(Decimal(cents) / 100)) for ad, cents in earlier.items()])
    rows = [insight(ad, spend=str(Decimal(cents) / 100)) for ad, cents in later.items()]
    rows += rows[:repeats]
    with staging(acme) as stage:
        for start in range(0, len(rows), page):
            stage.add(rows[start : start + page])
        commit = stage.commit_day(entry(), ("111",))
    assert stored(engine, "ad_id", "spend") == [(ad, Decimal(cents) / 100) for ad, cents in sorted(later.items())]
    assert commit.rows == len(later)
    assert commit.removed == len(earlier.keys() - later.keys())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60))
def test_any_text_comes_back_from_the_table_as_it_went_in(acme: TenantWarehouse, engine: sa.Engine, name: str) -> None:
    sync(acme, [insight("a", name=name)])
    assert stored(engine, "ad_name") == [(name,)]
