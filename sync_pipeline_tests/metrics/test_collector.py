"""What a scrape does while a database is down, slow, or asked too often, and what the server answers."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests
import sqlalchemy as sa
from prometheus_client import generate_latest
from prometheus_client.registry import CollectorRegistry
from starlette.testclient import TestClient

from sync_pipeline.metrics import reading
from sync_pipeline.metrics.collector import SnapshotCollector
from sync_pipeline.metrics.reading import ALL_PARTS, SnapshotReader
from sync_pipeline.metrics.server import application
from sync_pipeline.metrics.snapshot import Snapshot
from sync_pipeline_tests.cli.installed import Installed
from sync_pipeline_tests.cli.shell import Shell
from sync_pipeline_tests.metrics.conftest import Endpoint, Scrape
from sync_pipeline_tests.pipeline import administrator
from sync_pipeline_tests.ports import reserve_port
from sync_pipeline_tests.waiting import PATIENCE_S, wait_until


class Reader:
    """Counts how often it is read; waits for `release`, where there is one."""

    def __init__(self, release: threading.Event | None = None) -> None:
        self.reads = 0
        self.release = release
        self.at_once = 0
        self.most_at_once = 0

    def __call__(self) -> Snapshot:
        self.reads += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        if self.release:
            self.release.wait(PATIENCE_S)
        self.at_once -= 1
        return Snapshot(taken_at=time.time(), seconds=0.5, parts=ALL_PARTS, failed=frozenset(ALL_PARTS))


def text(collector: SnapshotCollector) -> str:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return generate_latest(registry).decode()


class Clocked:
    """A collector on a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.reads = 0
        self.collector = SnapshotCollector(self.read, fresh_for_s=15, clock=lambda: self.now)

    def read(self) -> Snapshot:
        self.reads += 1
        return Snapshot(taken_at=self.now, seconds=0.0, parts=ALL_PARTS)

    def scrape(self) -> Scrape:
        return Scrape(text(self.collector))


def test_scrapes_in_quick_succession_share_one_reading() -> None:
    clocked = Clocked()
    for _ in range(5):
        clocked.scrape()
    clocked.now += 14.5
    assert clocked.scrape().value("sync_pipeline_collection_age_seconds") == 14.5
    assert clocked.reads == 1
    clocked.now += 0.5
    assert clocked.scrape().value("sync_pipeline_collection_age_seconds") == 0
    assert clocked.reads == 2


def test_a_clock_that_is_moved_back_does_not_keep_a_snapshot() -> None:
    clocked = Clocked()
    clocked.scrape()
    clocked.now -= 500
    clocked.scrape()
    assert clocked.reads == 2


def test_many_scrapes_at_once_read_once_and_none_waits_for_long() -> None:
    release = threading.Event()
    reader = Reader(release)
    collector = SnapshotCollector(reader, fresh_for_s=0, answer_within_s=0.2)
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(text(collector))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert (len(answers), reader.reads) == (8, 1)
    assert all("sync_pipeline_up 0.0" in answer for answer in answers)
    release.set()
    wait_until(lambda: "sync_pipeline_collection_duration_seconds" in text(collector))
    assert reader.most_at_once == 1


@contextmanager
def unreachable(installed: Installed, which: str) -> Iterator[None]:
    """Have one of the two databases refuse connections, and end those that there are."""
    engine = installed.warehouse.engine if which == "warehouse" else installed.instance.run_storage._engine  # type: ignore[attr-defined]
    name, admin = engine.url.database, administrator(engine.url)
    with admin.connect() as connection:
        connection.execute(sa.text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'))
        connection.execute(
            sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"), {"name": name}
        )
        try:
            yield
        finally:
            connection.execute(sa.text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'))


def test_without_the_warehouse_the_rest_is_there(
    installed: Installed, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.scrape()
    caplog.clear()
    with unreachable(installed, "warehouse"):
        scrape = endpoint.scrape()
    assert scrape.value("sync_pipeline_up") == 0
    assert scrape.value("sync_pipeline_collector_success", part="warehouse") == 0
    assert scrape.value("sync_pipeline_collector_success", part="runs") == 1
    assert "sync_pipeline_days_behind" not in scrape.samples
    assert "sync_pipeline_runs" in scrape.samples
    said = [record for record in caplog.records if record.name == "sync_pipeline.metrics"]
    assert len(said) == 1
    assert said[0].getMessage().startswith("metrics of warehouse cannot be read: ")
    assert said[0].exc_info is None
    assert endpoint.scrape().value("sync_pipeline_up") == 1


def test_a_process_that_starts_without_databases_answers_and_recovers(
    installed: Installed, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = Endpoint()
    with unreachable(installed, "warehouse"):
        scrape = endpoint.scrape()
        assert {name for name in scrape.samples if "build" not in name} == {
            "sync_pipeline_up",
            "sync_pipeline_collector_success",
            "sync_pipeline_collection_duration_seconds",
            "sync_pipeline_collection_age_seconds",
        }
        assert scrape.value("sync_pipeline_up") == 0
    [said] = [record.getMessage() for record in caplog.records if record.name == "sync_pipeline.metrics"]
    assert said.startswith("metrics cannot be read: ")
    assert endpoint.scrape().value("sync_pipeline_up") == 1
    endpoint.reader.close()


def test_a_statement_that_takes_too_long_is_ended(
    installed: Installed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reading, "STATEMENT_TIMEOUT_S", 0.3)
    endpoint = Endpoint()
    assert endpoint.scrape().value("sync_pipeline_up") == 1
    caplog.clear()
    with installed.warehouse.engine.connect() as connection, connection.begin():
        with installed.warehouse.tenant("lumina", name="Lumina", timezone="UTC"):
            pass
        connection.execute(sa.text("LOCK TABLE sync_counters IN ACCESS EXCLUSIVE MODE"))
        scrape = endpoint.scrape()
    assert scrape.value("sync_pipeline_collector_success", part="warehouse") == 0
    [said] = [record.getMessage() for record in caplog.records if record.name == "sync_pipeline.metrics"]
    assert said.startswith("metrics of warehouse cannot be read: ")
    assert "statement timeout" in said


def test_tenants_that_take_too_long_together_are_given_up(
    installed: Installed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reading, "WAREHOUSE_TIMEOUT_S", -1.0)
    scrape = Endpoint().scrape()
    assert scrape.value("sync_pipeline_collector_success", part="warehouse") == 0
    assert "the warehouse gave the figures of 0 of 2 tenants within -1 s" in caplog.text


def test_an_unforeseen_error_takes_one_part_and_not_its_text(
    installed: Installed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("MARKER")

    monkeypatch.setattr(reading, "heartbeat_ages", fail)
    scrape = Endpoint().scrape()
    assert scrape.value("sync_pipeline_collector_success", part="runs") == 0
    assert scrape.value("sync_pipeline_collector_success", part="checks") == 1
    assert "metrics of runs cannot be read: unexpected KeyError" in caplog.text
    assert "MARKER" not in caplog.text


def test_the_server_writes_text_openmetrics_and_health(installed: Installed) -> None:
    client = TestClient(application(SnapshotCollector(SnapshotReader().read, answer_within_s=60)))
    plain = client.get("/metrics")
    assert plain.status_code == 200
    assert plain.headers["content-type"].startswith("text/plain")
    assert Scrape(plain.text).value("sync_pipeline_up") == 1
    opened = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert opened.headers["content-type"].startswith("application/openmetrics-text")
    assert opened.text.endswith("# EOF\n")
    assert (client.get("/healthz").status_code, client.get("/healthz").text) == (200, "ok\n")
    assert client.get("/").status_code == 404
    assert client.post("/metrics").status_code == 405


def test_a_collector_that_fails_is_one_sentence_for_the_client(caplog: pytest.LogCaptureFixture) -> None:
    def read() -> Snapshot:
        return None  # type: ignore[return-value]

    class Broken(SnapshotCollector):
        def collect(self):  # type: ignore[no-untyped-def]
            raise RuntimeError("MARKER")

    answer = TestClient(application(Broken(read))).get("/metrics")
    assert (answer.status_code, answer.text) == (500, "the metrics cannot be written; the log says why\n")
    assert "MARKER" in caplog.text


def test_the_command_serves_on_loopback_until_it_is_told_to_end(shell: Shell) -> None:
    port = reserve_port()
    with (shell.folder / "metrics.log").open("w") as log:
        process = shell.start("metrics", "--port", str(port), to=log)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(
            lambda: requests.get(f"{url}/healthz", timeout=10).ok,
            process=process,
            ignored=(requests.ConnectionError,),
        )
        scrape = Scrape(wait_until(lambda: requests.get(f"{url}/metrics", timeout=60).text, lambda t: "_up 1.0" in t))
        assert scrape.value("sync_pipeline_tenant_info", tenant="lumina") == 1
    finally:
        process.terminate()
    assert process.wait(PATIENCE_S) == 0
