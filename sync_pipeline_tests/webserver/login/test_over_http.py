"""The login as uvicorn serves it: addresses from proxies, and lines of the access log."""

import logging
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import pytest
import uvicorn
from sqlalchemy.engine import URL
from uvicorn.logging import AccessFormatter

from sync_pipeline.webserver.login.errors import ProviderUnavailableError
from sync_pipeline.webserver.login.oidc import Provider
from sync_pipeline.webserver.login.settings import trusted_proxies
from sync_pipeline_tests.waiting import PATIENCE_S
from sync_pipeline_tests.webserver.login.site import Site, environment, site

Lines = Callable[[], list[dict[str, Any]]]


@contextmanager
def served(ui: Site, **variables: str) -> Iterator[tuple[str, int]]:
    listener = socket.create_server(("127.0.0.1", 0))
    proxies = trusted_proxies(variables)
    config = uvicorn.Config(ui.app, log_config=None, log_level="info", forwarded_allow_ips=proxies)
    server = uvicorn.Server(config)
    thread = Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def exchange(address: tuple[str, int], request: bytes) -> bytes:
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def sign_in(address: tuple[str, int], ui: Site, forwarded_for: str) -> None:
    """A wrong password, by a form of this site, over HTTP."""
    browser = ui.browser()
    token = browser.form_token("/auth/login")
    cookie = f"__Host-sync_pipeline_form={browser.cookies['__Host-sync_pipeline_form']}"
    body = f"username=ana&password=guess&csrf_token={token}"
    headers = {
        "Host": "ui.example",
        "Cookie": cookie,
        "X-Forwarded-For": forwarded_for,
        "Content-Type": "application/x-www-form-urlencoded",
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    answer = exchange(address, f"POST /auth/login HTTP/1.1\r\n{lines}\r\n{body}".encode())
    assert answer.startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize(
    ("variables", "seen"),
    [
        ({}, "127.0.0.1"),
        ({"FORWARDED_ALLOW_IPS": "192.0.2.9"}, "127.0.0.1"),
        # What the client itself claims comes before the address that the listed proxy adds.
        ({"FORWARDED_ALLOW_IPS": "127.0.0.1"}, "198.51.100.7"),
    ],
)
def test_forwarded_address_counts_from_listed_proxies_only(
    ui: Site, variables: dict[str, str], seen: str, audit_lines: Lines
) -> None:
    with served(ui, **variables) as address:
        sign_in(address, ui, "203.0.113.1, 198.51.100.7")
    assert audit_lines()[-1]["address"] == seen


@pytest.mark.parametrize(
    "target",
    [
        "/auth/login%0aINFO:%20forged",
        "/auth/login%0d%0aINFO:%20forged?next=%0aINFO:%20forged",
        "/auth/login?next=/%0d%0aINFO:%20forged%E2%80%A8forged",
    ],
)
def test_encoded_newline_does_not_forge_an_access_line(ui: Site, target: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with served(ui) as address:
        exchange(address, f"GET {target} HTTP/1.1\r\nHost: ui.example\r\nConnection: close\r\n\r\n".encode())
    [record] = [each for each in caplog.records if each.name == "uvicorn.access"]
    line = AccessFormatter('%(levelprefix)s %(client_addr)s - "%(request_line)s" %(status_code)s').format(record)
    assert "forged" in line
    assert len(line.splitlines()) == 1


def test_provider_that_hangs_does_not_hold_up_passwords(users_url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    oidc = {
        "SYNC_PIPELINE_OIDC_ISSUER": "https://provider.example",
        "SYNC_PIPELINE_OIDC_CLIENT_ID": "sync-pipeline",
        "SYNC_PIPELINE_OIDC_CLIENT_SECRET": "secret of the client",
    }
    ui = site(environment(users_url, **oidc))
    released = Event()

    def hang(_: Provider) -> Any:
        # If nobody releases it, the response is another one.
        assert released.wait(PATIENCE_S)
        raise ProviderUnavailableError("hangs")

    monkeypatch.setattr(Provider, "start", hang)
    threads = 40  # as many as Starlette has for all requests
    request = b"GET /auth/oidc/start HTTP/1.1\r\nHost: ui.example\r\nConnection: close\r\n\r\n"
    with served(ui) as address, ThreadPoolExecutor(threads) as pool:
        hanging = [pool.submit(exchange, address, request) for _ in range(threads)]
        try:
            sign_in(address, ui, "203.0.113.1")
        finally:
            released.set()
        assert all(each.result(PATIENCE_S).startswith(b"HTTP/1.1 503") for each in hanging)
    ui.engine.dispose()
