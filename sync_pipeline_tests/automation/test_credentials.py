"""Ends of versions and tokens are found once a day outside of all runs; no tenant's API stops the check of others."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest

from sync_pipeline.automation.credentials import (
    BEGIN_WITHIN_S,
    RETRY_AFTER,
    TENANTS_PER_TICK,
    TIMEOUTS_S,
    Cursor,
    check_due_credentials,
)
from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline.sync.credentials import OUTDATED_AFTER
from sync_pipeline.tenants import Tenant, find_tenant, load_tenants
from sync_pipeline.warehouse.tenancy import Warehouse
from sync_pipeline_tests.clocks import stop_clock
from sync_pipeline_tests.pipeline import Pipeline, rendered

JOB = "lumina__daily_sync"
MARKER = "MARKER-9b2d-token"
# Noon in Manila, so that an hour later is the same day there and in Ho Chi Minh City.
NOON = datetime(2026, 11, 28, 4, 0, tzinfo=UTC)
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
# What ends a request and a tick in a test: the sandbox answers at once, or never.
SHORT_S = (1.0, 1.0)


def ends(at: datetime) -> faults.Effect:
    """Meta's answer about a token that expires then."""
    return faults.json_body(
        {"data": {"is_valid": True, "expires_at": int(at.timestamp()), "data_access_expires_at": 0}}
    )


@dataclass
class Watch:
    """Checks of the demo tenants at a given time; what was checked lasts from one to the next."""

    pipeline: Pipeline
    cursor: Cursor = field(default_factory=Cursor)
    warnings: list[str] = field(default_factory=list)

    @property
    def tenants(self) -> list[Tenant]:
        folder = load_tenants(self.pipeline.tenants)
        return [find_tenant(folder, name) for name in ("lumina", "mekong")]

    def check(self, now: datetime = NOON, tenants: list[Tenant] | None = None, seconds_per_request: float = 0) -> None:
        requests = self.pipeline.sandbox.requests
        asked = self.tenants if tenants is None else tenants
        self.cursor = check_due_credentials(
            self.pipeline.instance,
            Warehouse(self.pipeline.engine),
            asked,
            self.cursor,
            now,
            warn=self.warnings.append,
            clock=lambda: requests.count("debug_token") * seconds_per_request,
            timeouts_s=SHORT_S,
        )

    def asked(self) -> int:
        """How often Meta was asked about a token since the last time."""
        count = self.pipeline.sandbox.requests.count("debug_token")
        assert self.pipeline.sandbox.requests.count() == count, "nothing else was asked"
        self.pipeline.sandbox.requests.clear()
        return count

    def shown(self, tenant: str = "lumina") -> list[tuple[str, str]]:
        """Every evaluation so far, oldest first: `passed`, `WARN` or `ERROR`, and the sentence."""
        key = dg.AssetCheckKey(dg.AssetKey([tenant, "meta_ad_accounts"]), "credentials_current")
        records = self.pipeline.instance.event_log_storage.get_asset_check_execution_history(key, limit=100)
        events = [record.event.dagster_event for record in reversed(records) if record.event]
        found = [event.asset_check_evaluation_data for event in events if event]
        assert all(record.event.run_id == "" for record in records if record.event), "no run evaluates it here"
        return [("passed" if one.passed else one.severity.value, rendered(one.description)) for one in found]

    def outcomes(self, tenant: str = "lumina") -> list[str]:
        return [outcome for outcome, _ in self.shown(tenant)]

    def answer(self, effect: faults.Effect, tenant: str = "lumina", times: int | None = None) -> Fault:
        """What Meta answers about that tenant's token from now on."""
        self.pipeline.sandbox.faults.clear()
        token = f"input_token={self.pipeline.sandbox.environment[f'{tenant.upper()}_META_TOKEN']}"
        return self.pipeline.sandbox.faults.add(Fault(effect, path="debug_token", query=token, times=times))

    def store_tenants(self) -> None:
        for tenant in self.tenants:
            with Warehouse(self.pipeline.engine).tenant(tenant.tenant_id, name=tenant.name, timezone=tenant.timezone):
                pass

    def set_version(self, version: str) -> None:
        file = self.pipeline.tenants / "lumina.yaml"
        file.write_text(file.read_text().replace("api_version: v26.0", f"api_version: {version}"))


@pytest.fixture
def watch(pipeline: Pipeline) -> Watch:
    """A watch over tenants that have run before."""
    watch = Watch(pipeline)
    watch.store_tenants()
    return watch


def test_the_sensor_asks_once_a_day_and_starts_no_runs(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_clock(monkeypatch, "sync_pipeline.automation.credentials", NOON)
    Watch(pipeline).store_tenants()
    sensor = pipeline.definitions.get_repository_def().get_sensor_def("watch_credentials")
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    first = sensor.evaluate_tick(dg.build_sensor_context(instance=pipeline.instance))
    assert (first.run_requests, first.skip_message) == ([], "2 of 2 tenants checked")
    again = sensor.evaluate_tick(dg.build_sensor_context(instance=pipeline.instance, cursor=first.cursor))
    assert again.skip_message == "no check is due"
    assert Watch(pipeline).asked() == 2
    [(outcome, sentence)] = Watch(pipeline).shown()[:1]
    assert outcome == "passed"
    assert sentence.endswith("; the token does not expire; the token's access to data does not end")
    assert pipeline.instance.get_runs_count() == 0


@pytest.mark.parametrize(
    ("left", "outcome"), [(61 * DAY, "passed"), (60 * DAY, "WARN"), (SECOND, "WARN"), (0 * DAY, "ERROR")]
)
def test_a_token_warns_60_days_before_its_end_and_fails_at_it(watch: Watch, left: timedelta, outcome: str) -> None:
    watch.answer(ends(NOON + left))
    watch.check()
    [(shown, sentence)] = watch.shown()
    assert shown == outcome
    assert ("the token expired on 2026-11-28 04:00 UTC" in sentence) is (outcome == "ERROR")
    assert watch.outcomes("mekong") == ["passed"]


@pytest.mark.parametrize(
    ("day", "outcome"),
    [
        (date(2026, 12, 24), "passed"),
        (date(2026, 12, 25), "WARN"),
        (date(2027, 2, 22), "WARN"),
        (date(2027, 2, 23), "ERROR"),
    ],
)
def test_a_version_warns_60_days_before_its_end(watch: Watch, day: date, outcome: str) -> None:
    watch.set_version("v25.0")
    watch.check(datetime(day.year, day.month, day.day, 12, tzinfo=UTC))
    [(shown, sentence)] = watch.shown()
    assert shown == outcome
    assert "v25.0 end" in sentence


def test_what_was_found_is_stored_for_sql_and_for_runs(watch: Watch) -> None:
    watch.answer(ends(NOON + 30 * DAY))
    watch.check()
    query = "SELECT subject, version, state, ends_at, checked_at FROM credential_expiries WHERE tenant_id = 'lumina'"
    assert watch.pipeline.query(f"{query} ORDER BY 1") == [
        ("api_version", "v26.0", "valid", None, NOON),
        ("data_access", None, "valid", None, NOON),
        ("token", None, "valid", NOON + 30 * DAY, NOON),
    ]


def test_each_tenant_is_asked_once_a_day_of_its_own_timezone(watch: Watch) -> None:
    watch.check()
    assert watch.asked() == 2
    for hours in range(1, 12):
        watch.check(NOON + hours * HOUR)
    assert watch.asked() == 0
    # Midnight in Manila; in Ho Chi Minh City it is an hour later.
    watch.check(NOON + 12 * HOUR)
    assert watch.asked() == 1
    watch.check(NOON + 13 * HOUR)
    assert watch.asked() == 1
    assert (watch.outcomes(), watch.outcomes("mekong")) == (["passed"] * 2, ["passed"] * 2)


def test_an_edited_version_is_checked_at_the_next_tick(watch: Watch) -> None:
    watch.set_version("v24.0")
    watch.check()
    file = watch.pipeline.tenants / "lumina.yaml"
    file.write_text(file.read_text().replace("v24.0", "v23.0"))
    watch.check(NOON + timedelta(minutes=1))
    file.write_text(file.read_text().replace("v23.0", "v26.0"))
    watch.check(NOON + timedelta(minutes=2))
    assert watch.outcomes() == ["ERROR", "ERROR", "passed"]
    assert "v23.0 ended" in watch.shown()[1][1]
    assert watch.outcomes("mekong") == ["passed"]


def test_a_renewed_token_is_seen_within_the_hour(watch: Watch) -> None:
    watch.pipeline.sandbox.world.expire_token("lumina")
    watch.check()
    [(outcome, sentence)] = watch.shown()
    assert outcome == "ERROR"
    assert sentence.startswith("Meta does not accept the token, as of 2026-11-28 04:00 UTC; renew it")
    for minutes in range(1, 60):
        watch.check(NOON + timedelta(minutes=minutes))
    assert watch.asked() == 2
    watch.pipeline.sandbox.world.undo_edits()
    watch.check(NOON + RETRY_AFTER)
    assert watch.outcomes() == ["ERROR", "passed"]
    assert watch.asked() == 1


def test_a_failed_request_keeps_the_result_and_warns_after_days(watch: Watch) -> None:
    watch.check()
    fault = watch.answer(faults.http_error(500))
    for hours in range(1, 24 * 3):
        watch.check(NOON + hours * HOUR)
    assert set(watch.outcomes()) == {"passed"}
    # Once an hour of the three days since the first midnight.
    assert fault.hits <= 24 * 3
    watch.check(NOON + OUTDATED_AFTER)
    outcome, sentence = watch.shown()[-1]
    assert outcome == "WARN"
    assert sentence.startswith("the token was last checked on 2026-11-28 04:00 UTC; ")
    assert any(line.startswith("lumina: Meta failed on its side") for line in watch.warnings)
    watch.pipeline.sandbox.faults.clear()
    watch.check(NOON + OUTDATED_AFTER + HOUR)
    assert watch.outcomes()[-1] == "passed"


def test_a_stored_end_comes_closer_while_requests_fail(watch: Watch) -> None:
    watch.answer(ends(NOON + 61 * DAY))
    watch.check()
    watch.answer(faults.http_error(500))
    watch.check(NOON + DAY)
    assert watch.outcomes() == ["passed", "WARN"]


def test_a_tenant_never_checked_shows_nothing_then_a_warning(watch: Watch) -> None:
    watch.answer(faults.rate_limited("60"))
    watch.check()
    watch.check(NOON + DAY)
    assert watch.outcomes() == []
    watch.check(NOON + OUTDATED_AFTER)
    [(outcome, sentence)] = watch.shown()
    assert outcome == "WARN"
    assert "the check of the token has failed since 2026-11-28 04:00 UTC" in sentence


def test_a_missing_secret_fails_one_tenant_and_not_the_others(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LUMINA_META_TOKEN")
    watch.check()
    assert watch.outcomes("mekong") == ["passed"]
    [warning] = watch.warnings
    assert "the environment variable LUMINA_META_TOKEN is not set" in warning


def test_where_meta_tells_no_end_nothing_fails(watch: Watch) -> None:
    watch.answer(faults.graph_error_code(100, status=400))
    watch.check()
    [(outcome, sentence)] = watch.shown()
    assert outcome == "passed"
    assert "Meta does not tell when the token expires" in sentence
    watch.check(NOON + HOUR)
    assert watch.asked() == 2, "it is not a failure that is repeated"


def test_a_hanging_tenant_is_put_last_and_does_not_block_others(watch: Watch) -> None:
    held = watch.answer(faults.held())
    watch.check()
    assert held.hits == 1
    assert (watch.outcomes(), watch.outcomes("mekong")) == ([], ["passed"])
    [warning] = watch.warnings
    assert "no answer within 1 s" in warning or "did not end" in warning
    # The next day both are due, and the one that hangs had its turn later.
    one = watch.tenants[1].model_copy(update={"tenant_id": "new"})
    watch.check(NOON + RETRY_AFTER, tenants=[*watch.tenants, one], seconds_per_request=BEGIN_WITHIN_S + 1)
    assert "new" in watch.cursor.tenants, "a tenant that was never asked comes before one that failed"
    assert held.hits == 1


def test_a_tick_begins_nothing_that_could_outlast_dagsters_limit(watch: Watch) -> None:
    many = [watch.tenants[1].model_copy(update={"tenant_id": f"t{number:02}"}) for number in range(25)]
    sizes = []
    while watch.asked() or not sizes:
        before = len(watch.cursor.tenants)
        watch.check(tenants=many)
        sizes.append(len(watch.cursor.tenants) - before)
    assert sizes == [TENANTS_PER_TICK, TENANTS_PER_TICK, 5, 0]

    watch.cursor = Cursor()
    watch.check(tenants=many, seconds_per_request=sum(TIMEOUTS_S))
    # Begun at 0 and 13 s; the third would begin at 26 s.
    assert watch.asked() == 2
    assert BEGIN_WITHIN_S + sum(TIMEOUTS_S) < 60


def test_a_tenant_without_a_run_is_stored_once_it_has_one(pipeline: Pipeline) -> None:
    watch = Watch(pipeline)
    watch.check()
    assert watch.outcomes() == ["passed"]
    assert pipeline.query("SELECT * FROM credential_expiries") == []
    watch.store_tenants()
    watch.check(NOON + RETRY_AFTER)
    assert pipeline.query("SELECT DISTINCT tenant_id FROM credential_expiries ORDER BY 1") == [("lumina",), ("mekong",)]
    assert watch.outcomes() == ["passed"], "the same result is not told again"


def test_a_warehouse_that_fails_for_one_tenant_stops_no_other(watch: Watch) -> None:
    watch.pipeline.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF NEW.tenant_id = 'lumina' THEN RAISE 'refused'; END IF; RETURN NEW; END $$"
    )
    watch.pipeline.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON credential_expiries EXECUTE FUNCTION refuse()".replace(
            "EXECUTE", "FOR EACH ROW EXECUTE"
        )
    )
    watch.check()
    watch.check(NOON + timedelta(minutes=1))
    assert watch.asked() == 2, "it is not asked again at the next tick"
    assert watch.outcomes("mekong") == ["passed"]


@pytest.mark.parametrize("cursor", ["", "nonsense", '{"tenants": {"lumina": 1}}'])
def test_a_cursor_of_another_form_counts_as_none(cursor: str) -> None:
    assert Cursor.parse(cursor) == Cursor()


def test_no_token_reaches_an_event_a_cursor_or_a_table(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUMINA_META_TOKEN", MARKER)
    message = f"Malformed access token {MARKER} in debug_token?input_token={MARKER}"
    for number, effect in enumerate(
        (
            faults.graph_error_code(190, message=message),
            faults.graph_error_code(100, message=message),
            faults.http_error(500, message),
            faults.graph_error_code(2, status=500, message=message),
            faults.redirect(f"https://elsewhere.test/?access_token={MARKER}"),
            faults.json_body({"data": {"is_valid": True, "expires_at": MARKER, "scopes": [MARKER]}}),
        )
    ):
        watch.pipeline.sandbox.faults.clear()
        fault = watch.pipeline.sandbox.faults.add(Fault(effect, path="debug_token", query=MARKER, times=None))
        watch.check(NOON + number * DAY)
        assert fault.hits == 1
    key = dg.AssetCheckKey(dg.AssetKey(["lumina", "meta_ad_accounts"]), "credentials_current")
    records = watch.pipeline.instance.event_log_storage.get_asset_check_execution_history(key, limit=100)
    assert len(records) == 6
    assert "MARKER" not in str([record.event for record in records])
    assert "MARKER" not in watch.cursor.model_dump_json()
    assert "MARKER" not in "".join(watch.warnings)
    assert "MARKER" not in str(watch.pipeline.query("SELECT credential_expiries::text FROM credential_expiries"))
