"""The heartbeat for an external watcher: sent while everything works, withheld otherwise, and never in a log."""

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._daemon.types import DaemonHeartbeat

from sync_pipeline.automation import webhooks
from sync_pipeline.automation.heartbeat import SENSOR
from sync_pipeline.cli.foreground import DEFINITIONS
from sync_pipeline.dagster_internals.schedules import SINGLETON_REPOSITORY_NAME
from sync_pipeline.definitions import build_definitions
from sync_pipeline.settings import HEARTBEAT_VARIABLE, Settings
from sync_pipeline_tests.cli.installed import LOCATION
from sync_pipeline_tests.pipeline import Pipeline

MARKER = "MARKER-7d20-heartbeat"


@dataclass
class Watcher:
    """An external watcher: keeps what is requested, and answers as it is told."""

    status: int = 200
    delay: threading.Event | None = None
    requests: list[tuple[str, str]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/ping/{MARKER}"


@pytest.fixture
def watcher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watcher]:
    watcher = Watcher()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            watcher.requests.append((self.command, self.path))
            if watcher.delay:
                watcher.delay.wait(60)
            self.send_response(watcher.status)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        watcher.port = server.server_port
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setenv(HEARTBEAT_VARIABLE, watcher.url)
        yield watcher
        if watcher.delay:
            watcher.delay.set()
        server.shutdown()


def tick(pipeline: Pipeline) -> str:
    """Evaluate the sensor once, and return what its tick says."""
    sensor = build_definitions(Settings.from_environment()).resolve_sensor_def(SENSOR)
    with dg.build_sensor_context(instance=pipeline.instance) as context:
        data = sensor.evaluate_tick(context)
    assert not data.run_requests
    return str(data.skip_message)


def beat(pipeline: Pipeline, *, age_s: float = 1.0, without: str = "") -> None:
    at = datetime.now(UTC).timestamp() - age_s
    for daemon in pipeline.instance.get_required_daemon_types():
        if daemon != without:
            pipeline.instance.add_daemon_heartbeat(DaemonHeartbeat(at, daemon, "id", []))


def add_run(pipeline: Pipeline, status: dg.DagsterRunStatus) -> None:
    location = ManagedGrpcPythonEnvCodeLocationOrigin(LoadableTargetOrigin(module_name=DEFINITIONS), LOCATION)
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, SINGLETON_REPOSITORY_NAME), "lumina__daily_sync")
    pipeline.instance.add_run(dg.DagsterRun("lumina__daily_sync", status=status, remote_job_origin=origin))


def age_runs(pipeline: Pipeline, minutes: int) -> None:
    with pipeline.instance.run_storage.connect() as connection:  # type: ignore[attr-defined]
        ago = f"create_timestamp = create_timestamp - interval '{minutes} minutes'"
        connection.execute(sa.text(f"UPDATE runs SET {ago}"))


def test_a_heartbeat_is_sent_while_everything_works(pipeline: Pipeline, watcher: Watcher) -> None:
    beat(pipeline)
    assert tick(pipeline) == "sent"
    assert watcher.requests == [("GET", f"/ping/{MARKER}")]


def test_without_a_url_there_is_no_sensor(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HEARTBEAT_VARIABLE, raising=False)
    sensors = build_definitions(Settings.from_environment()).sensors or ()
    assert SENSOR not in {sensor.name for sensor in sensors}


def test_a_silent_daemon_withholds_it(pipeline: Pipeline, watcher: Watcher) -> None:
    beat(pipeline, without="SCHEDULER")
    assert tick(pipeline) == "not sent: the daemon scheduler has never sent a heartbeat"
    beat(pipeline, age_s=700, without="SENSOR")
    assert "the daemon scheduler has sent no heartbeat for 70" in tick(pipeline)
    assert watcher.requests == []


def test_a_queue_that_does_not_move_withholds_it(pipeline: Pipeline, watcher: Watcher) -> None:
    beat(pipeline)
    add_run(pipeline, dg.DagsterRunStatus.QUEUED)
    age_runs(pipeline, 5)
    assert tick(pipeline) == "sent"
    age_runs(pipeline, 11)
    said = tick(pipeline)
    assert said.startswith("not sent: run ")
    assert said.endswith(" s, and no run is in progress")
    add_run(pipeline, dg.DagsterRunStatus.STARTED)
    assert tick(pipeline) == "sent"
    assert len(watcher.requests) == 2


def test_a_warehouse_out_of_reach_withholds_it(
    pipeline: Pipeline, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat(pipeline)
    monkeypatch.setenv("SYNC_PIPELINE_DATABASE_URL", f"postgresql://nobody:{MARKER}@127.0.0.1:1/warehouse")
    said = tick(pipeline)
    assert said.startswith("not sent: ")
    assert "SYNC_PIPELINE_DATABASE_URL" in said
    assert MARKER not in said
    assert watcher.requests == []


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (500, "it answered HTTP 500"),
        (302, "it redirects (HTTP 302), which is not followed; set the address it leads to"),
    ],
)
def test_a_watcher_that_refuses_changes_nothing_else(
    pipeline: Pipeline, watcher: Watcher, status: int, why: str
) -> None:
    beat(pipeline)
    watcher.status = status
    assert tick(pipeline) == f"did not arrive: {why}"
    assert len(watcher.requests) == 1


def test_a_watcher_that_hangs_does_not_hold_up_the_sensor(
    pipeline: Pipeline, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat(pipeline)
    monkeypatch.setattr(webhooks, "READ_TIMEOUT_S", 0.2)
    watcher.delay = threading.Event()
    assert tick(pipeline) == "did not arrive: no answer within 0.2 s; it may have been taken"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/{marker}",
        "http://x.invalid/{marker}?key={marker}",
        "ftp://127.0.0.1/{marker}",
        "{marker}",
        "http://[{marker}/x",
    ],
)
def test_the_address_is_in_no_log_and_no_tick(
    pipeline: Pipeline, watcher: Watcher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, url: str
) -> None:
    caplog.set_level(logging.DEBUG)
    beat(pipeline)
    monkeypatch.setenv(HEARTBEAT_VARIABLE, url.format(marker=MARKER))
    said = tick(pipeline)
    assert said.startswith("did not arrive: ")
    assert MARKER not in said
    assert MARKER not in caplog.text
    assert MARKER not in repr(Settings.from_environment())


def test_the_address_of_a_heartbeat_that_arrives_is_in_no_log(
    pipeline: Pipeline, watcher: Watcher, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    beat(pipeline)
    assert tick(pipeline) == "sent"
    assert any(record.name.startswith("urllib3") for record in caplog.records), "its own log is part of this"
    assert MARKER not in caplog.text
