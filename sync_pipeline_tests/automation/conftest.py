"""A webhook over HTTP, for whatever posts to one."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sync_pipeline.automation import webhooks
from sync_pipeline_tests.waiting import PATIENCE_S

MARKER = "MARKER-5c1e-hook"


@dataclass
class Hook:
    """A webhook on this machine: keeps what is posted to it and answers as it is told."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    release: threading.Event | None = None  # answers only once this is set
    posts: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    port: int = 0

    def url(self, name: str = "lumina") -> str:
        return f"http://127.0.0.1:{self.port}/services/{name}/{MARKER}"

    def texts(self, name: str = "lumina") -> list[str]:
        assert all(body.keys() == {"text"} for _, body in self.posts)
        return [body["text"] for path, body in self.posts if path == f"/services/{name}/{MARKER}"]


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    hook = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            hook.posts.append((self.path, body))
            if hook.release:
                hook.release.wait(PATIENCE_S)
            self.send_response(hook.status)
            for name, value in hook.headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hook.port = server.server_port
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setattr(webhooks, "PAUSE_S", 0.0)
        yield hook
        if hook.release:
            hook.release.set()
        server.shutdown()
