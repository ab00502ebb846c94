"""deploy/caddy in front of a webserver that is a process of this machine."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from sync_pipeline_tests.deploy.compose import DEPLOY
from sync_pipeline_tests.ports import reserve_port
from sync_pipeline_tests.waiting import PATIENCE_S, wait_until

needs_caddy = pytest.mark.skipif(not shutil.which("caddy"), reason="the command caddy is not installed")


@dataclass(frozen=True)
class Proxy:
    """Caddy at an address with TLS; `root` is the certificate of its own authority."""

    url: str
    http_port: int
    root: Path

    def session(self, source_address: str) -> requests.Session:
        """A client at another address of this machine."""
        session = requests.Session()
        session.trust_env = False
        session.verify = str(self.root)
        session.mount("https://", _From(source_address))
        return session


class _From(HTTPAdapter):
    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, source_address=(self._address, 0), **options)


def reserve_url() -> str:
    """An address for `running`."""
    return f"https://localhost:{reserve_port()}"


@contextmanager
def running(folder: Path, url: str, webserver: str) -> Iterator[Proxy]:
    """Start Caddy with the Caddyfile of deploy/caddy; it differs only in its ports and in where the webserver is."""
    http_port = reserve_port()
    options = f"{{\n\tadmin off\n\tskip_install_trust\n\thttp_port {http_port}\n}}\n"
    text = (DEPLOY / "caddy" / "Caddyfile").read_text()
    assert "reverse_proxy webserver:3000" in text
    file = folder / "Caddyfile"
    file.write_text(options + text.replace("webserver:3000", webserver))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder / "data"),
        "SYNC_PIPELINE_UI_URL": url,
        "SYNC_PIPELINE_TLS_ISSUER": "internal",
    }
    root = folder / "data/caddy/pki/authorities/local/root.crt"
    with (folder / "caddy.log").open("w") as log:
        process = subprocess.Popen(
            ["caddy", "run", "--config", file, "--adapter", "caddyfile"],  # noqa: S607
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        proxy = Proxy(url, http_port, root)

        def answers() -> bool:
            with proxy.session("127.0.0.1") as session:
                return root.is_file() and session.get(f"{url}/auth/health", timeout=PATIENCE_S).ok

        wait_until(answers, process=process, ignored=(requests.RequestException, OSError))
        yield proxy
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
