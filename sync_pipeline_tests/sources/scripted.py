"""A real HTTP server on 127.0.0.1 that plays a script of replies and records what it was asked."""

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

from sync_pipeline_tests.waiting import PATIENCE_S

Ending = Literal["whole", "cut", "reset", "silent"]


@dataclass(frozen=True)
class Reply:
    """One answer. Ending: whole; cut in the middle of the body; reset before any answer; or silent for ever."""

    body: bytes | str | object = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    ending: Ending = "whole"
    content_type: str | None = "application/json; charset=UTF-8"

    def encoded(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()


@dataclass(frozen=True)
class Asked:
    """A request as it came in; of repeated parameters the last counts."""

    method: str
    path: str
    target: str
    query: dict[str, str]
    form: dict[str, str]
    headers: dict[str, str]
    connection: int


class ScriptedServer:
    """Plays `replies` in order; a request beyond the last one is answered with 418, which no test expects."""

    def __init__(self, *replies: Reply | object) -> None:
        self.script = [reply if isinstance(reply, Reply) else Reply(reply) for reply in replies]
        self.asked: list[Asked] = []
        self.free = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        # A poll this short lets the many servers of a test run end at once.
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.005,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def then(self, *replies: Reply | object) -> Self:
        self.script += [reply if isinstance(reply, Reply) else Reply(reply) for reply in replies]
        return self

    @property
    def paths(self) -> list[str]:
        return [asked.path for asked in self.asked]

    def queries(self, name: str) -> list[str | None]:
        return [asked.query.get(name) for asked in self.asked]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.free.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._play()

            def do_POST(self) -> None:
                self._play()

            def _play(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                form = self.rfile.read(length).decode()
                split = urlsplit(self.path)
                scripted.asked.append(
                    Asked(
                        self.command,
                        split.path,
                        self.path,
                        {name: values[-1] for name, values in parse_qs(split.query).items()},
                        {name: values[-1] for name, values in parse_qs(form).items()},
                        dict(self.headers),
                        self.client_address[1],
                    )
                )
                number = len(scripted.asked) - 1
                self._send(scripted.script[number] if number < len(scripted.script) else Reply(b"", 418))

            def _send(self, reply: Reply) -> None:
                if reply.ending == "silent":
                    scripted.free.wait(PATIENCE_S)
                    self.close_connection = True
                    return
                if reply.ending == "reset":
                    # Closing without lingering sends RST.
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.close_connection = True
                    self.rfile.close()
                    self.connection.close()
                    return
                body = reply.encoded()
                self.send_response_only(reply.status)
                if "Date" not in reply.headers:
                    self.send_header("Date", self.date_time_string())
                if reply.content_type is not None:
                    self.send_header("Content-Type", reply.content_type)
                self.send_header("Content-Length", str(len(body)))
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if reply.ending == "cut" else body)
                self.close_connection = self.close_connection or reply.ending == "cut"

            def log_message(self, *args: Any) -> None:
                pass

        return Handler


class FakeClock:
    """A clock that only its own `sleep` moves, and that remembers each sleep."""

    def __init__(self, on_sleep: Callable[[float], None] = lambda _: None) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self._on_sleep = on_sleep

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        self._on_sleep(seconds)


def graph_error(code: int, subcode: int | None = None, message: str = "no", **more: object) -> dict[str, Any]:
    """A Graph error body."""
    error = {"message": message, "type": "OAuthException", "code": code, "fbtrace_id": "Atrace", **more}
    return {"error": error if subcode is None else {**error, "error_subcode": subcode}}


def graph_page(rows: Iterable[object], after: str | None = None) -> dict[str, Any]:
    """A Graph page; with a next one where `after` is given, whose URL carries a token as Meta's does."""
    page: dict[str, Any] = {"data": list(rows), "paging": {"cursors": {"before": "b", "after": after or "last"}}}
    if after is not None:
        page["paging"]["next"] = f"https://graph.facebook.com/v26.0/x?access_token=LEAKED&limit=25&after={after}"
    return page
