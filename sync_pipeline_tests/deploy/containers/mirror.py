"""A mirror of the package index as companies have one: over TLS with a certificate of their own, behind a password."""

import base64
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote

import requests
from pip._internal.models.index import PyPI

from sync_pipeline_tests.deploy.containers.building import package_index
from sync_pipeline_tests.deploy.containers.certificates import make_certificates

USER, PASSWORD = "builder", "marker-of-the-mirrors-password"
_FILES = "/files/"
_FORWARDED = ("Accept", "Range", "User-Agent")
_RETURNED = ("Content-Type", "Content-Range", "ETag", "Accept-Ranges")


@dataclass
class Mirror:
    """A running mirror; `netrc` and `authority` are files for a build."""

    url: str
    netrc: Path
    authority: Path
    refused: list[str] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)


@contextmanager
def mirror(address: str, folder: Path) -> Iterator[Mirror]:
    """Serve the index of this machine on an address that builds reach, until the end of the block."""
    make_certificates(address, folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "key.pem")
    server = ThreadingHTTPServer((address, 0), _Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    port = server.server_address[1]
    netrc = folder / "netrc"
    netrc.write_text(f"machine {address} login {USER} password {PASSWORD}\n")
    served = Mirror(f"https://{address}:{port}/simple/", netrc, folder / "authority.pem")
    _Handler.mirror = served
    _Handler.upstream = (package_index() or PyPI.simple_url).rstrip("/")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    mirror: Mirror
    upstream: str
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        expected = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {expected}":
            self.mirror.refused.append(self.path)
            self._reply(401, b"", {"WWW-Authenticate": 'Basic realm="mirror"'})
            return
        self.mirror.answered.append(self.path)
        is_file = self.path.startswith(_FILES)
        url = _original(self.path) if is_file else self.upstream + self.path.removeprefix("/simple")
        headers = {name: self.headers[name] for name in _FORWARDED if name in self.headers}
        found = requests.get(url, headers={**headers, "Accept-Encoding": "identity"}, timeout=120)
        body = found.content if is_file else re.sub(rb"https?://[^\"'#\s<>]+", self._rewritten, found.content)
        self._reply(found.status_code, body, {name: found.headers[name] for name in _RETURNED if name in found.headers})

    def do_HEAD(self) -> None:
        self.do_GET()

    def _rewritten(self, link: "re.Match[bytes]") -> bytes:
        base = self.mirror.url.removesuffix("/simple/")
        # The name of the file stays the end of the path.
        folder, _, name = link[0].decode().rpartition("/")
        return f"{base}{_FILES}{quote(folder, safe='')}/{name}".encode()

    def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Print nothing."""


def _original(path: str) -> str:
    folder, _, name = path.removeprefix(_FILES).rpartition("/")
    return f"{unquote(folder)}/{name}"
