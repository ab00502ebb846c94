"""Signing in and out by password, and what strangers can make of the pages."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL
from starlette.requests import HTTPConnection

from sync_pipeline.webserver import audit
from sync_pipeline.webserver.login import cookies
from sync_pipeline.webserver.login.routes import FORM_LENGTH, SESSION_LIFETIME_S
from sync_pipeline.webserver.roles import Role
from sync_pipeline_tests.pipeline import administrator
from sync_pipeline_tests.webserver.login.site import PASSWORD, SERVICE_TOKEN, Site, environment, site

PAGES = ("/auth/login", "/auth/logout", "/auth/oidc/start", "/auth/oidc/callback")
Lines = Callable[[], list[dict[str, Any]]]


def test_right_password_opens_a_session(ui: Site) -> None:
    ui.add("ana", Role.LAUNCHER)
    browser = ui.browser()
    answer = browser.sign_in("ana", next_path="/runs?view=all")
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs?view=all")
    assert browser.who() == ("ana", "launcher")
    assert ui.browser().who() is None


def test_next_on_another_host_is_not_followed(ui: Site) -> None:
    ui.add("ana")
    for next_path in ("//evil.test", "///evil.test/", "https:/evil.test", "/\\evil.test", "/\t/evil.test"):
        assert ui.browser().sign_in("ana", next_path=next_path).headers["location"] == "/"
    page = ui.browser().get("/auth/login", params={"next": "//evil.test"})
    assert "evil.test" not in page.text


def test_answer_is_the_same_for_known_and_unknown_names(ui: Site) -> None:
    for name in ("ana", "dora"):
        ui.add(name)
    ui.users.delete("dora")
    with ui.engine.begin() as connection:
        provided = "UPDATE users SET oidc_issuer = 'https://id.example', oidc_subject = '1', password_hash = ''"
        ui.add("olga")
        connection.execute(sa.text(f"{provided} WHERE username = 'olga'"))
    answers = set()
    for name in ("ana", "dora", "olga", "nobody"):
        answer = ui.browser().sign_in(name, "not the password" if name == "ana" else PASSWORD)
        body = re.sub(r'(nonce|value)="[^"]*"', "", answer.text)
        answers.add((answer.status_code, body, tuple(sorted(answer.headers.keys()))))
    assert len(answers) == 1


def test_password_is_verified_for_every_name(ui: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from sync_pipeline.webserver.login import passwords

    for name in ("ana", "dora"):
        ui.add(name)
    ui.users.delete("dora")
    verified: list[str | None] = []

    def recording(password: str, stored: str | None, *, bcrypt_in_use: bool) -> bool:
        verified.append(stored)
        return original(password, stored, bcrypt_in_use=bcrypt_in_use)

    original = passwords.verify
    monkeypatch.setattr(passwords, "verify", recording)
    for name in ("ana", "dora", "nobody", ""):
        ui.browser().sign_in(name, "a guess")
    ana = ui.users.find("ana")
    assert ana
    assert verified == [ana.password_hash, None, None, None]


def test_session_cookie_is_for_this_host_tls_and_no_script(ui: Site) -> None:
    ui.add("ana")
    browser = ui.browser()
    page, answer = browser.get("/auth/login"), browser.sign_in("ana")
    set_cookies = [page.headers["set-cookie"], *answer.headers.get_list("set-cookie")]
    assert [cookie.partition("=")[0] for cookie in set_cookies] == [
        "__Host-sync_pipeline_form",
        "__Host-sync_pipeline_session",
        "__Host-sync_pipeline_device",
    ]
    for cookie in set_cookies:
        assert {"Secure", "HttpOnly", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
        assert "Domain" not in cookie


def test_session_ends_after_its_lifetime(ui: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    ui.add("ana")
    browser = ui.browser()
    browser.sign_in("ana")
    signer = "itsdangerous.timed.TimestampSigner.get_timestamp"
    signed_at = int(cookies.URLSafeTimedSerializer("x").signer("x").get_timestamp())  # type: ignore[attr-defined]
    monkeypatch.setattr(signer, lambda _: signed_at + SESSION_LIFETIME_S - 60)
    assert browser.who() == ("ana", "viewer")
    monkeypatch.setattr(signer, lambda _: signed_at + SESSION_LIFETIME_S + 60)
    assert browser.who() is None


@pytest.mark.parametrize("change", ["role", "password", "delete", "delete and add"])
def test_change_of_a_user_ends_their_sessions(ui: Site, change: str) -> None:
    ui.add("ana")
    ui.add("ben")
    ana, ben = ui.browser(), ui.browser()
    ana.sign_in("ana")
    ben.sign_in("ben")
    if change == "role":
        ui.users.change_role("ana", Role.ADMIN)
    elif change == "password":
        ui.users.change_password("ana", "another password")
    else:
        ui.users.delete("ana")
        if change == "delete and add":
            ui.add("ana")
    assert ana.who() is None
    assert ben.who() == ("ben", "viewer")


def test_signing_out_ends_the_session_wherever_its_cookie_is(ui: Site, audit_lines: Lines) -> None:
    ui.add("ana")
    browser, thief = ui.browser(), ui.browser()
    browser.sign_in("ana")
    thief.cookies.update(browser.cookies)
    assert browser.sign_out().headers["location"] == "/auth/login"
    assert browser.who() is None
    assert thief.who() is None
    assert (audit_lines()[-1]["event"], audit_lines()[-1]["user"]) == ("sign_out", "ana")


def test_get_does_not_sign_out(ui: Site) -> None:
    ui.add("ana")
    browser = ui.browser()
    browser.sign_in("ana")
    for method in ("GET", "HEAD"):
        assert browser.request(method, "/auth/logout").status_code == 200
    assert browser.who() == ("ana", "viewer")


@pytest.mark.parametrize("token", ["", "made up", None])
def test_form_without_its_token_does_nothing(ui: Site, token: str | None) -> None:
    ui.add("ana")
    stranger = ui.browser().form_token("/auth/login") if token is None else token
    browser = ui.browser()
    assert browser.sign_in("ana", csrf_token=stranger).status_code == 403
    assert browser.who() is None
    browser.sign_in("ana")
    assert browser.post("/auth/logout", data={"csrf_token": stranger}).status_code == 403
    assert browser.who() == ("ana", "viewer")


def test_token_without_its_cookie_does_nothing(ui: Site) -> None:
    ui.add("ana")
    browser = ui.browser()
    token = browser.form_token("/auth/login")
    browser.cookies.clear()
    answer = browser.post("/auth/login", data={"username": "ana", "password": PASSWORD, "csrf_token": token})
    assert answer.status_code == 403


def test_cookies_do_not_pass_for_each_other(ui: Site) -> None:
    ui.add("ana")
    browser = ui.browser()
    browser.sign_in("ana")
    names = ("session", "form", "device")
    signed = {name: browser.cookies[f"__Host-sync_pipeline_{name}"] for name in names}
    for other in ("form", "device"):
        stranger = ui.browser()
        stranger.cookies["__Host-sync_pipeline_session"] = signed[other]
        assert stranger.who() is None


@pytest.mark.parametrize("blank", [b"\xa0", b"\x85", b"\x1c"])
def test_cookie_that_another_host_of_the_domain_can_set_is_not_taken_for_ours(blank: bytes) -> None:
    """A browser protects names that begin with `__Host-`, so not those with anything in front."""
    cookie = cookies.SignedCookie.create("session", SESSION_LIFETIME_S, SERVICE_TOKEN, "")
    pair = f"{cookie.name}={cookie.sign({'name': 'eve'})}".encode()

    def read(header: bytes) -> dict[str, Any] | None:
        return cookie.read(HTTPConnection({"type": "http", "headers": [(b"cookie", header)]}))

    assert read(b"a=b; " + pair) == {"name": "eve"}
    assert read(b"a=b; " + blank + pair) is None


def test_two_tabs_of_a_browser_can_both_send_their_form(ui: Site) -> None:
    ui.add("ana")
    browser = ui.browser()
    tokens = [browser.form_token("/auth/login") for _ in range(2)]
    for token in tokens:
        form = {"username": "ana", "password": PASSWORD, "csrf_token": token}
        assert browser.post("/auth/login", data=form).status_code == 303


def test_pages_load_nothing_and_cannot_be_framed_or_cached(ui: Site) -> None:
    ui.add("ana")
    browser = ui.browser()
    browser.sign_in("ana")
    for page in map(browser.get, PAGES):
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'nonce-")
        assert "form-action 'self'; base-uri 'none'; frame-ancestors 'none'" in policy
        assert page.headers["x-frame-options"] == "DENY"
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["referrer-policy"] == "same-origin"
        assert not re.search(r"https?:|@import|url\(|<script|<img|<link", page.text)


@pytest.mark.parametrize("text", ['"><script>alert(1)</script>', "'\"<b>"])
def test_what_a_visitor_sends_is_escaped(ui: Site, text: str) -> None:
    page = ui.browser().get("/auth/login", params={"next": f"/{text.replace(' ', '')}", "error": text})
    assert text not in page.text
    assert "<script" not in page.text


def test_path_prefix_is_part_of_links_redirects_and_cookies(users_url: URL) -> None:
    ui = site(environment(users_url), "/data")
    ui.add("ana")
    browser = ui.browser()
    assert browser.get("/auth/login").status_code == 404
    page = browser.get("/data/auth/login")
    assert 'action="/data/auth/login"' in page.text
    assert page.headers["set-cookie"].startswith("__Secure-sync_pipeline_form=")
    answer = browser.sign_in("ana", next_path="//evil.test")
    assert answer.headers["location"] == "/data/"
    assert all("Path=/data" in cookie.split("; ") for cookie in answer.headers.get_list("set-cookie"))
    assert 'action="/data/auth/logout"' in browser.get("/data/auth/logout").text
    assert browser.sign_out().headers["location"] == "/data/auth/login"


def test_service_token_is_a_program_of_its_role(users_url: URL) -> None:
    program = {"Dagster-Cloud-Api-Token": SERVICE_TOKEN}
    for variable, role in (("", "viewer"), ("ADMIN", "admin"), ("launcher", "launcher")):
        ui = site(environment(users_url, DAGSTER_AUTH_SERVICE_TOKEN_ROLE=variable))
        assert ui.browser().who(**program) == ("service-token", role)
        for wrong in ("", "no", SERVICE_TOKEN[:-1], f"{SERVICE_TOKEN}x", "\xff"):
            headers = {"Dagster-Cloud-Api-Token": wrong.encode("latin-1")}
            assert ui.browser().get("/who", headers=headers).status_code == 401
    without = site(environment(users_url, DAGSTER_AUTH_SERVICE_TOKEN=""))
    assert without.browser().who(**program) is None
    assert without.browser().who(**{"Dagster-Cloud-Api-Token": ""}) is None


def test_health_shows_strangers_one_word(ui: Site) -> None:
    for path in ("/auth/health", "/auth/health?type=ready", "/auth/health?type=full"):
        answer = ui.browser().get(path)
        assert (answer.status_code, answer.json()) == (200, {"ready": True})
    assert ui.browser().get("/auth/health?type=live").json() == {"alive": True}


def test_everything_says_so_while_the_database_is_away(ui: Site, users_url: URL) -> None:
    ui.add("ana")
    browser = ui.browser()
    browser.sign_in("ana")
    admin = administrator(users_url)
    with admin.connect() as connection:
        connection.execute(sa.text(f"ALTER DATABASE {users_url.database} ALLOW_CONNECTIONS false"))
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
        connection.execute(sa.text(end), {"name": users_url.database})
    try:
        health = browser.get("/auth/health")
        assert (health.status_code, health.json()) == (503, {"ready": False})
        assert browser.get("/auth/health?type=live").status_code == 200
        page = browser.sign_in("ana")
        assert page.status_code == 503
        assert "the database of the users cannot be reached" in page.text
        assert str(users_url.host) not in page.text
    finally:
        with admin.connect() as connection:
            connection.execute(sa.text(f"ALTER DATABASE {users_url.database} ALLOW_CONNECTIONS true"))
    assert browser.get("/auth/health").status_code == 200
    assert browser.who() == ("ana", "viewer")


def test_form_that_is_too_long_is_not_read_to_its_end(ui: Site) -> None:
    read = 0

    async def post() -> int:
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/auth/login",
            "raw_path": b"/auth/login",
            "root_path": "",
            "scheme": "https",
            "query_string": b"",
            "headers": [(b"content-type", b"application/x-www-form-urlencoded")],
            "client": ("192.0.2.1", 1),
            "server": ("ui.example", 443),
        }
        statuses = []

        async def receive() -> dict[str, Any]:
            nonlocal read
            read += 1024
            return {"type": "http.request", "body": b"a" * 1024, "more_body": True}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        await ui.app(scope, receive, send)
        return int(statuses[0])

    assert asyncio.run(post()) == 403
    assert FORM_LENGTH < read <= FORM_LENGTH + 2048


def test_names_cannot_forge_audit_lines(ui: Site, audit_lines: Lines) -> None:
    forged = '\r\n{"timestamp": "2026-11-27", "event": "sign_in", "user": "ana", "outcome": "allowed"}\u2028\x85\x1b[2K'
    ui.browser().sign_in(f"ana{forged}", "guess", next_path=f"/{forged}")
    ui.browser(address=f"1.2.3.4{forged}").sign_in("ana", "guess")
    lines = audit_lines()
    assert [(line["event"], line["outcome"]) for line in lines] == [("sign_in", "refused")] * 2
    assert list(lines[0]) == [*audit.FIELDS, "outcome", "reason"]


def test_sign_ins_are_in_the_audit_log(ui: Site, audit_lines: Lines) -> None:
    ui.add("ana", Role.ADMIN)
    ui.browser().sign_in("ana", "a guess")
    ui.browser("192.0.2.7").sign_in("ana")
    of = ("event", "user", "role", "address", "outcome", "method", "reason")
    assert [tuple(line.get(key) for key in of) for line in audit_lines()] == [
        ("sign_in", "ana", None, "192.0.2.1", "refused", None, "wrong name or password"),
        ("sign_in", "ana", "admin", "192.0.2.7", "allowed", "password", None),
    ]


def test_no_secret_is_in_a_log_or_repr(ui: Site, users_url: URL, caplog: pytest.LogCaptureFixture) -> None:
    from sync_pipeline.webserver.login.settings import LoginSettings

    caplog.set_level("DEBUG")
    ui.add("ana")
    browser = ui.browser()
    browser.sign_in("ana")
    browser.sign_in("ana", "marker of a wrong password")
    browser.who(**{"Dagster-Cloud-Api-Token": SERVICE_TOKEN})
    browser.sign_out()
    variables = environment(users_url.set(password="marker-of-the-database"))
    ana = ui.users.find("ana")
    text = caplog.text + repr(LoginSettings.from_environment(variables)) + repr(ana)
    assert "marker" not in text
    assert "$argon2" not in text
