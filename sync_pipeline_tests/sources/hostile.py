"""A server that sends raw bytes, and a process of its own whose peak memory is measured while it reads them."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Self

Sender = Callable[[], Iterable[bytes]]

# Prints the error, and the peak of memory of the process in MB.
_CLIENT = """
import json, re, sys
from pathlib import Path
from datetime import UTC, date, datetime
from sync_pipeline.sources.errors import SourceError
from sync_pipeline.sources.meta import MetaClient
from sync_pipeline.sources.pancake import PancakeClient
from sync_pipeline.sources.waits import Pacing

url, call = sys.argv[1:]
day, noon = date(2026, 10, 25), datetime(2026, 10, 25, 12, tzinfo=UTC)
meta = MetaClient(tenant="acme", graph_url=url, token="EAABx", pacing=Pacing(delay_s=0))
pancake = PancakeClient(tenant="acme", api_url=url, api_key="k" * 9, pacing=Pacing(delay_s=0))
error = None
try:
    for _ in {
        "insights": lambda: meta.insights("11", day, day),
        "accounts": lambda: meta.ad_accounts(),
        "orders": lambda: pancake.orders("7", day, day, noon, noon),
        "products": lambda: pancake.products("7"),
    }[call]():
        pass
except SourceError as caught:
    error = caught
print(json.dumps([
    type(error).__name__, str(error), getattr(error, "limit", None), str(getattr(error, "place", "")),
    # Unlike that of `getrusage`, this peak does not begin with that of the process that started this one.
    int(re.search("VmHWM:\\s*([0-9]+)", Path("/proc/self/status").read_text())[1]) / 1024,
]))
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended: its error, and the peak of memory of its process."""

    kind: str
    message: str
    limit: str | None
    place: str
    peak_mb: float


class HostileServer:
    """Answers every request of every connection with what `sender` yields, then closes the connection."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.requests = 0
        self.closed_early = threading.Event()
        self._closing = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._closing.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                request = b""
                while b"\r\n\r\n" not in request:
                    if not (received := connection.recv(65536)):
                        return
                    request += received
                self.requests += 1
                for part in self._sender():
                    if self._closing.is_set():
                        return
                    connection.sendall(part)
            except OSError:
                self.closed_early.set()


def response(body: bytes, *headers: str, status: str = "200 OK") -> Iterator[bytes]:
    """A response that ends with its connection."""
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", "Connection: close", *headers]
    yield "\r\n".join([*lines, "", ""]).encode()
    yield body


def outcome_of(sender: Sender, call: str = "insights") -> Outcome:
    """What a process of its own makes of these responses."""
    with HostileServer(sender) as server:
        done = subprocess.run(
            [sys.executable, "-c", _CLIENT, server.url, call], capture_output=True, text=True, check=True, timeout=300
        )
    return Outcome(*json.loads(done.stdout))
