"""Edits of tenant files reach a running Dagster: on request, and in `dev` by themselves."""

import itertools
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from sync_pipeline.cli import reloading
from sync_pipeline.cli.reloading import (
    PATIENCE,
    ChangeDetector,
    NothingListensError,
    WebserverError,
    reload,
    reloading_on_change,
)
from sync_pipeline.last_good import fingerprint
from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline.warehouse import database
from sync_pipeline_tests import attacks
from sync_pipeline_tests.cli.shell import Shell, query
from sync_pipeline_tests.cli.ui import REPOSITORY, Ui
from sync_pipeline_tests.pipeline import rendered
from sync_pipeline_tests.ports import reserve_port
from sync_pipeline_tests.waiting import wait_until

SCHEDULES = """query ($selector: RepositorySelector!) {
  schedulesOrError(repositorySelector: $selector) {
    ... on Schedules { results { name cronSchedule scheduleState { status } } }
  }
}"""
BROKEN = """{ repositoriesOrError { ... on RepositoryConnection { nodes {
  assetNodes { groupName description }
} } } }"""

LOADS: dict[str, object] = {"reloadWorkspace": {"__typename": "Workspace", "locationEntries": []}}
HAS: dict[str, object] = {
    "repositoriesOrError": {
        "__typename": "RepositoryConnection",
        "nodes": [{"assetGroups": [{"groupName": "lumina"}], "assetNodes": []}],
    }
}


@dataclass
class Webserver:
    """Answers as Dagster's webserver does, or as told, and counts the reloads it is asked for."""

    reloads: int = 0
    answer: dict[str, object] = field(default_factory=dict)

    def handler(self) -> type[BaseHTTPRequestHandler]:
        webserver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = self.rfile.read(int(self.headers["Content-Length"]))
                webserver.reloads += b"reloadWorkspace" in asked
                body = json.dumps({"data": {**LOADS, **HAS, **webserver.answer}}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture
def port() -> int:
    return reserve_port()


@pytest.fixture
def webserver(port: int) -> Iterator[Webserver]:
    webserver = Webserver()
    with ThreadingHTTPServer(("127.0.0.1", port), webserver.handler()) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield webserver
        server.shutdown()
        thread.join()


@pytest.fixture
def tenants(tmp_path: Path) -> Path:
    folder = tmp_path / "tenants"
    folder.mkdir()
    (folder / "acme.yaml").write_text("tenant: acme")
    return folder


class Looks:
    """Lets the watcher look at the folder only when a test asks for it."""

    def __init__(self) -> None:
        self._allowed = threading.Semaphore(1)  # the look at the start
        self._asked = 0

    def fingerprint(self, folder: Path) -> object:
        self._asked += 1
        self._allowed.acquire()
        return fingerprint(folder)

    def once(self) -> None:
        """Have the watcher look once, and wait until it has done what follows from that."""
        wait_until(lambda: self._asked > 1)
        before = self._asked
        self._allowed.release()
        wait_until(lambda: self._asked > before)

    def end(self) -> None:
        self._allowed.release()


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Looks]:
    looks = Looks()
    monkeypatch.setattr(reloading, "LOOK_EVERY_S", 0)
    monkeypatch.setattr(reloading, "fingerprint", looks.fingerprint)
    yield looks
    looks.end()


def test_a_reload_tells_what_was_loaded(port: int, webserver: Webserver) -> None:
    assert str(reload(f"http://127.0.0.1:{port}/")) == "tenants loaded: lumina"
    assert webserver.reloads == 1


def test_a_reload_without_a_webserver_says_what_to_do(port: int, shell: Shell) -> None:
    with pytest.raises(NothingListensError, match="nothing listens there; start `sync-pipeline dev`"):
        reload(f"http://127.0.0.1:{port}")
    result = shell.run("reload", "--url", f"http://127.0.0.1:{port}")
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: http://127.0.0.1:{port}: nothing listens there")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"reloadWorkspace": {"__typename": "PythonError", "message": "no luck"}}, "no luck"),
        ({"reloadWorkspace": {"__typename": "UnauthorizedError", "message": "not you"}}, "not you"),
        (
            {
                "reloadWorkspace": {
                    "__typename": "Workspace",
                    "locationEntries": [
                        {"name": "sync_pipeline", "locationOrLoadError": {"__typename": "PythonError", "message": "x"}}
                    ],
                }
            },
            "sync_pipeline does not load: x",
        ),
    ],
)
def test_a_reload_that_fails_says_why(port: int, webserver: Webserver, answer: dict[str, object], message: str) -> None:
    webserver.answer = answer
    with pytest.raises(WebserverError, match=message):
        reload(f"http://127.0.0.1:{port}")


def test_something_else_at_the_address_is_told_apart(sandbox: SandboxServer) -> None:
    with pytest.raises(WebserverError, match="answers, but not as Dagster's webserver does"):
        reload(sandbox.environment["META_GRAPH_URL"])


def test_a_change_is_loaded_once_after_it_has_come_to_rest(
    tenants: Path, port: int, webserver: Webserver, looks: Looks, capfd: pytest.CaptureFixture[str]
) -> None:
    said = ""

    def reloads_told() -> int:
        nonlocal said
        said += capfd.readouterr().err
        line = f"{tenants} has changed; tenants loaded: lumina\n"
        assert said == line * webserver.reloads
        return webserver.reloads

    with reloading_on_change(tenants, f"http://127.0.0.1:{port}"):
        for step in range(1, 5):
            (tenants / "acme.yaml").write_text("tenant: acme" + " " * step)
            looks.once()
            assert reloads_told() == 0, "it may still be written to"
        for _ in range(3):
            looks.once()
            assert reloads_told() == 1
        (tenants / "costs.csv").write_text("cogs")
        looks.once()
        looks.once()
        assert reloads_told() == 2
        (tenants / "acme.yaml").unlink()
        looks.once()
        looks.once()
        assert reloads_told() == 3


def test_a_file_that_never_rests_does_not_hold_up_others() -> None:
    resting, changed = (1, 1), (2, 1)
    changes = ChangeDetector({"a.yaml": resting, "log.csv": (0, 0)})
    looks = itertools.count(1)

    def due(a: tuple[int, int]) -> bool:
        return changes.is_due({"a.yaml": a, "log.csv": (next(looks), 0)})

    assert not any(due(resting) for _ in range(50)), "a file that is being written is no reason to load"
    assert not any(due(changed) for _ in range(PATIENCE + 1)), "it may come to rest, too"
    assert due(changed)
    changes.mark_loaded()
    assert not any(due(changed) for _ in range(50))
    end = {"a.yaml": changed, "log.csv": (next(looks), 0)}
    assert [changes.is_due(end), changes.is_due(end)] == [False, True]
    changes.mark_loaded()
    assert not changes.is_due(end)


def test_an_added_and_a_removed_file_are_changes() -> None:
    changes = ChangeDetector({"a.yaml": (1, 1)})
    for now in ({"a.yaml": (1, 1), "b.yaml": (0, 0)}, {"b.yaml": (0, 0)}, {}):
        assert [changes.is_due(now), changes.is_due(now)] == [False, True]
        changes.mark_loaded()
        assert not changes.is_due(now)


@pytest.mark.parametrize("name", attacks.FILES)
def test_an_attack_is_one_change_to_the_watcher(tenants: Path, name: str) -> None:
    changes = ChangeDetector(fingerprint(tenants))
    attacks.FILES[name](tenants / "attack.yaml")
    looks = [changes.is_due(fingerprint(tenants)) for _ in range(3)]
    assert looks == [False, True, True]
    changes.mark_loaded()
    assert not any(changes.is_due(fingerprint(tenants)) for _ in range(PATIENCE * 2))


def test_a_change_before_the_webserver_listens_is_loaded_once_it_does(
    tenants: Path, port: int, looks: Looks, request: pytest.FixtureRequest
) -> None:
    with reloading_on_change(tenants, f"http://127.0.0.1:{port}"):
        (tenants / "acme.yaml").write_text("tenant: acme2")
        for _ in range(3):
            looks.once()
        webserver: Webserver = request.getfixturevalue("webserver")
        for _ in range(2):
            looks.once()
        assert webserver.reloads == 1


def test_edits_reach_a_running_dev_by_themselves(
    shell: Shell, served: tuple[Ui, "subprocess.Popen[str]"], sandbox: SandboxServer, warehouse_url: URL
) -> None:
    ui, _ = served
    url = ui.url.removesuffix("/graphql")
    storage = database.beside(warehouse_url, "_dagster")
    log = shell.folder / "dev.log"
    file = shell.tenants / "lumina.yaml"

    def told(text: str) -> bool:
        return any("has changed" in line and text in line for line in log.read_text().splitlines())

    def schedules() -> dict[str, tuple[str, str]]:
        results = ui.ask(SCHEDULES, selector=REPOSITORY)["schedulesOrError"]["results"]
        return {one["name"]: (one["cronSchedule"], one["scheduleState"]["status"]) for one in results}

    # A run waits for its rate limit while the file of its tenant is edited; another one is queued behind it.
    waiting = Fault(faults.rate_limited("2"), path="insights", times=None)
    sandbox.faults.add(waiting)
    running = ui.start("lumina__daily_sync", "2026-10-05", "2026-10-06")
    wait_until(lambda: waiting.hits)
    queued = ui.start("lumina__meta_only", "2026-10-05", "2026-10-05")

    before = file.read_text()
    [nightly] = re.findall(r'schedule: "(0 2 .+)"', before)
    later, extra = nightly.replace("0 2", "30 4"), nightly.replace("0 2", "7 3")
    workflow = f"""
  - name: extra
    sources: [pos]
    date_range: {{type: rolling, offset_days: 0}}
    schedule: "{extra}"
"""
    file.write_text(before.replace(nightly, later) + workflow)
    wait_until(lambda: told("tenants loaded: lumina, mekong"))
    assert schedules()["lumina__daily_sync_schedule"] == (later, "RUNNING")
    assert schedules()["lumina__extra_schedule"] == (extra, "RUNNING")
    # The daemon notes a schedule that begins switched on the first time it looks at it.
    seen = "SELECT count(*) FROM instigators WHERE instigator_body LIKE '%lumina__extra_schedule%'"
    wait_until(lambda: query(storage, seen) == [(1,)])

    # The switch on the command line is the switch in the UI.
    assert shell.run("workflows", "disable", "lumina", "extra").returncode == 0
    assert schedules()["lumina__extra_schedule"][1] == "STOPPED"
    ui.switch_off("lumina__daily_sync_schedule")
    assert "schedule     off" in shell.run("workflows", "show", "lumina", "daily_sync").stdout
    assert shell.run("workflows", "enable", "lumina", "daily_sync").returncode == 0
    assert schedules()["lumina__daily_sync_schedule"][1] == "RUNNING"

    # An edit that does not validate leaves everything as it was, and says so.
    file.write_text(file.read_text().replace("offset_days: 1", "offset_days: -1"))
    wait_until(lambda: told("the last good version of lumina, from 20"))
    assert schedules()["lumina__daily_sync_schedule"] == (later, "RUNNING")
    [node] = ui.ask(BROKEN)["repositoriesOrError"]["nodes"]
    [shown] = [asset for asset in node["assetNodes"] if asset["groupName"] == "broken_tenant_files"]
    description = rendered(shown["description"])
    assert "offset_days" in description
    assert "is in use" in description
    reloaded = shell.run("reload", "--url", url)
    assert (reloaded.returncode, reloaded.stdout) == (1, "tenants loaded: lumina, mekong\n")
    assert reloaded.stderr.startswith("error: ")
    assert "workflows.0.date_range.offset_days" in reloaded.stderr
    assert shell.run("check").returncode == 1

    # Runs that were there before all this are cancelled and finished as if nothing had happened.
    cancelled = shell.run("cancel", queued)
    assert (cancelled.returncode, cancelled.stdout) == (0, f"execution {queued} is CANCELLED: taken from the queue\n")
    sandbox.faults.clear()
    assert ui.wait_for_run(running, "CANCELED", "SUCCESS", "FAILURE") == "SUCCESS"

    file.write_text(before)
    wait_until(lambda: "lumina__extra_schedule" not in schedules())
    reloaded = shell.run("reload", "--url", url)
    assert (reloaded.returncode, reloaded.stderr) == (0, "")

    # A run in progress whose code server has been replaced twice since it was launched can still be cancelled.
    sandbox.faults.add(waiting)
    waiting.hits = 0
    launched = ui.start("lumina__daily_sync", "2026-10-08", "2026-10-08")
    wait_until(lambda: waiting.hits)
    assert shell.run("reload", "--url", url).returncode == 0
    cancelled = shell.run("cancel", launched[:13])
    assert cancelled.returncode == 0, cancelled.stderr
    assert cancelled.stdout.startswith(f"execution {launched} is CANCELLED: stopped")
    shown_again = json.loads(shell.run("executions", "show", launched, "--json").stdout)
    assert (shown_again["status"], shown_again["tenant"], shown_again["committed_days"]) == ("CANCELLED", "lumina", [])
