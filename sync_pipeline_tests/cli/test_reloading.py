"""Edits of tenant files reach a running Dagster: on request, and by the watcher of `dev`."""

import itertools
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

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
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline_tests import attacks
from sync_pipeline_tests.cli.shell import Shell
from sync_pipeline_tests.ports import reserve_port
from sync_pipeline_tests.waiting import wait_until

pytestmark = pytest.mark.slow

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
