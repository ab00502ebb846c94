"""Single sign-on, against a provider that the tests start."""

import base64
import hashlib
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from joserfc.jwk import RSAKey
from sqlalchemy.engine import URL

from sync_pipeline.webserver.login.errors import SignInRefusedError
from sync_pipeline.webserver.login.oidc import identity
from sync_pipeline.webserver.login.settings import LoginSettings
from sync_pipeline.webserver.roles import Role
from sync_pipeline_tests.webserver.login.provider import Claims, FakeProvider, fake_provider
from sync_pipeline_tests.webserver.login.site import ADDRESS, Browser, Site, environment, site

CLIENT_SECRET = "marker-of-the-client-secret"
CALLBACK = "/auth/oidc/callback"
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def shared_provider() -> Iterator[FakeProvider]:
    with fake_provider() as provider:
        yield provider


@pytest.fixture
def provider(shared_provider: FakeProvider) -> Iterator[FakeProvider]:
    fresh = FakeProvider(shared_provider.app)
    before = {name: getattr(fresh, name) for name in ("change_claims", "sign_with", "document", "token_requests")}
    yield shared_provider
    for name, value in before.items():
        setattr(shared_provider, name, value)


def variables(url: URL, provider: FakeProvider, **changes: str) -> dict[str, str]:
    return environment(
        url,
        **{
            "SYNC_PIPELINE_OIDC_ISSUER": provider.issuer,
            "SYNC_PIPELINE_OIDC_CLIENT_ID": "sync-pipeline",
            "SYNC_PIPELINE_OIDC_CLIENT_SECRET": CLIENT_SECRET,
            **changes,
        },
    )


@pytest.fixture
def sso(users_url: URL, provider: FakeProvider) -> Iterator[Site]:
    running = site(variables(users_url, provider))
    yield running
    running.engine.dispose()


def come_back(browser: Browser, provider: FakeProvider, subject: str, next_path: str = "/") -> str:
    """Go to the provider and sign in there; returns the address that it sends the browser back to."""
    started = browser.get("/auth/oidc/start", params={"next": next_path})
    assert started.status_code == 303
    return provider.authorize(started.headers["location"], subject)


def sign_in(browser: Browser, provider: FakeProvider, subject: str = "1", next_path: str = "/") -> Any:
    return browser.get(come_back(browser, provider, subject, next_path))


def test_user_of_the_provider_signs_in_with_the_role_of_the_claim(
    sso: Site, provider: FakeProvider, audit_lines: Lines
) -> None:
    provider.user("1", preferred_username="ana", name="Ana Reyes", roles=["viewer", "launcher"])
    browser = sso.browser()
    assert 'href="/auth/oidc/start?next=%2Fruns"' in browser.get("/auth/login", params={"next": "/runs"}).text
    answer = sign_in(browser, provider, next_path="/runs")
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs")
    assert browser.who() == ("ana", "launcher")
    line = audit_lines()[-1]
    assert [line[key] for key in ("event", "user", "role", "outcome", "method")] == [
        "sign_in",
        "ana",
        "launcher",
        "allowed",
        "oidc",
    ]
    ana = sso.users.find("ana")
    assert ana
    assert (ana.full_name, ana.oidc_issuer, ana.oidc_subject) == ("Ana Reyes", provider.issuer, "1")


def test_browser_is_sent_back_to_the_configured_address(sso: Site) -> None:
    started = sso.browser().get("/auth/oidc/start", headers={"Host": "evil.test", "X-Forwarded-Host": "evil.test"})
    query = parse_qs(urlsplit(started.headers["location"]).query)
    assert query["redirect_uri"] == [f"{ADDRESS}{CALLBACK}"]
    assert query["response_type"] == ["code"]
    assert len(query["state"][0]) >= 20
    assert len(query["nonce"][0]) >= 20


def test_next_on_another_host_is_not_followed(sso: Site, provider: FakeProvider) -> None:
    provider.user("1", preferred_username="ana", roles=["viewer"])
    assert sign_in(sso.browser(), provider, next_path="//evil.test/").headers["location"] == "/"


def test_role_is_taken_from_the_claim_at_every_sign_in(sso: Site, provider: FakeProvider) -> None:
    first, second = sso.browser(), sso.browser()
    provider.user("1", preferred_username="ana", roles=["admin"])
    sign_in(first, provider)
    assert first.who() == ("ana", "admin")
    provider.user("1", preferred_username="ana", roles=["viewer"])
    sign_in(second, provider)
    assert second.who() == ("ana", "viewer")
    # The session with the former role has ended.
    assert first.who() is None


@pytest.mark.parametrize("roles", [None, [], ["other"], "other", 7, {"admin": True}, ["ADMIN"], [["admin"]]])
def test_user_without_a_role_is_refused(sso: Site, provider: FakeProvider, roles: object, audit_lines: Lines) -> None:
    provider.user("1", preferred_username="ana", **({} if roles is None else {"roles": roles}))
    browser = sso.browser()
    answer = sign_in(browser, provider)
    assert answer.status_code == 403
    assert "You have no role here" in answer.text
    assert browser.who() is None
    assert sso.users.find("ana") is None
    assert (audit_lines()[-1]["outcome"], audit_lines()[-1]["reason"]) == ("refused", "role")


def test_role_that_is_gone_at_the_provider_is_gone_here(sso: Site, provider: FakeProvider) -> None:
    provider.user("1", preferred_username="ana", roles=["admin"])
    browser = sso.browser()
    sign_in(browser, provider)
    provider.user("1", preferred_username="ana", roles=[])
    assert sign_in(sso.browser(), provider).status_code == 403


@pytest.mark.parametrize("claims", [{}, {"preferred_username": ""}, {"preferred_username": 7}])
def test_user_without_a_name_is_refused(sso: Site, provider: FakeProvider, claims: Claims) -> None:
    provider.user("1", roles=["admin"], **claims)
    assert sign_in(sso.browser(), provider).status_code == 403


def test_local_user_is_not_taken_over(sso: Site, provider: FakeProvider) -> None:
    sso.add("ana", Role.ADMIN)
    provider.user("1", preferred_username="ana", roles=["viewer"])
    browser = sso.browser()
    answer = sign_in(browser, provider)
    assert answer.status_code == 403
    assert "Another user has the name" in answer.text
    assert browser.who() is None
    assert sso.browser().sign_in("ana").status_code == 303


def test_account_with_the_name_of_another_is_refused(sso: Site, provider: FakeProvider) -> None:
    provider.user("1", preferred_username="ana", roles=["admin"])
    provider.user("2", preferred_username="ana", roles=["viewer"])
    assert sign_in(sso.browser(), provider, "1").status_code == 303
    assert sign_in(sso.browser(), provider, "2").status_code == 403


def test_renamed_account_stays_one_user(sso: Site, provider: FakeProvider) -> None:
    provider.user("1", preferred_username="ana", roles=["admin"])
    old = sso.browser()
    sign_in(old, provider)
    provider.user("1", preferred_username="anna", roles=["admin"])
    new = sso.browser()
    sign_in(new, provider)
    assert (old.who(), new.who()) == (None, ("anna", "admin"))
    # Somebody else may have the name now, and the old session is not theirs.
    provider.user("2", preferred_username="ana", roles=["viewer"])
    assert sign_in(sso.browser(), provider, "2").status_code == 303
    assert old.who() is None


def test_user_of_the_provider_has_no_password(sso: Site, provider: FakeProvider) -> None:
    provider.user("1", preferred_username="ana", roles=["admin"])
    sign_in(sso.browser(), provider)
    for password in ("", "ana"):
        assert sso.browser().sign_in("ana", password).status_code == 401


def test_deleted_user_stays_out_until_admitted_again(sso: Site, provider: FakeProvider) -> None:
    provider.user("1", preferred_username="ana", roles=["admin"])
    browser = sso.browser()
    sign_in(browser, provider)
    sso.users.delete("ana")
    assert browser.who() is None
    provider.user("1", preferred_username="other", roles=["admin"])
    assert sign_in(sso.browser(), provider).status_code == 403
    sso.users.readmit("ana")
    assert browser.who() is None
    assert sign_in(browser, provider).status_code == 303


def wrong_issuer(claims: Claims) -> Claims:
    return {**claims, "iss": "https://evil.test"}


def wrong_audience(claims: Claims) -> Claims:
    return {**claims, "aud": "another-client"}


def audience_with_another_party(claims: Claims) -> Claims:
    return {**claims, "aud": ["sync-pipeline", "another-client"], "azp": "another-client"}


def expired(claims: Claims) -> Claims:
    return {**claims, "exp": int(time.time()) - 3600}


def issued_in_the_future(claims: Claims) -> Claims:
    return {**claims, "iat": int(time.time()) + 3600}


def wrong_nonce(claims: Claims) -> Claims:
    return {**claims, "nonce": "of another sign-in"}


def without(claim: str) -> Callable[[Claims], Claims]:
    return lambda claims: {name: value for name, value in claims.items() if name != claim}


@pytest.mark.parametrize(
    "change",
    [
        wrong_issuer,
        wrong_audience,
        audience_with_another_party,
        expired,
        issued_in_the_future,
        wrong_nonce,
        *map(without, ("iss", "aud", "exp", "iat", "nonce", "sub")),
    ],
)
def test_id_token_with_a_wrong_claim_is_refused(
    sso: Site, provider: FakeProvider, change: Callable[[Claims], Claims], audit_lines: Lines
) -> None:
    provider.user("1", preferred_username="ana", roles=["admin"])
    provider.change_claims = change
    browser = sso.browser()
    answer = sign_in(browser, provider)
    assert answer.status_code == 403
    assert "could not be verified" in answer.text
    assert browser.who() is None
    assert sso.users.find("ana") is None
    assert audit_lines()[-1]["reason"].startswith("id_token ")


def test_id_token_with_a_signature_of_another_key_is_refused(sso: Site, provider: FakeProvider) -> None:
    provider.user("1", preferred_username="ana", roles=["admin"])
    provider.sign_with = RSAKey.generate_key(2048)
    assert sign_in(sso.browser(), provider).status_code == 403
    assert sso.users.find("ana") is None


@pytest.mark.parametrize("state", [None, "", "made-up"])
def test_answer_with_another_state_is_refused(sso: Site, provider: FakeProvider, state: str | None) -> None:
    provider.user("1", preferred_username="ana", roles=["admin"])
    browser = sso.browser()
    query = {name: values[0] for name, values in parse_qs(urlsplit(come_back(browser, provider, "1")).query).items()}
    changed = {"code": query["code"], **({} if state is None else {"state": state})}
    before = len(provider.token_requests)
    answer = browser.get(CALLBACK, params=changed)
    assert answer.status_code == 403
    assert "does not belong to a sign-in that this browser began" in answer.text
    # The code was not even redeemed.
    assert len(provider.token_requests) == before


def test_answer_in_a_browser_that_did_not_begin_is_refused(sso: Site, provider: FakeProvider) -> None:
    provider.user("1", preferred_username="eve", roles=["admin"])
    address = come_back(sso.browser(), provider, "1")
    victim = sso.browser()
    assert victim.get(address).status_code == 403
    victim.get("/auth/oidc/start")
    assert victim.get(address).status_code == 403
    assert victim.who() is None


def test_code_without_a_state_does_not_sign_a_stranger_in(sso: Site, provider: FakeProvider) -> None:
    """A link by which an attacker has a victim's browser, which has no cookie of ours, work in their account."""
    provider.user("1", preferred_username="eve", roles=["admin"])
    start, _, query = sso.browser().get("/auth/oidc/start").headers["location"].partition("?")
    asked = {name: values[0] for name, values in parse_qs(query).items()}
    asked = {name: asked[name] for name in ("client_id", "redirect_uri", "response_type", "scope")}
    back = requests.post(start, params=asked, data={"sub": "1"}, allow_redirects=False, timeout=30)
    code = parse_qs(urlsplit(back.headers["location"]).query)["code"][0]
    # The provider takes no verifier, since the attacker asked without a challenge.
    provider.challenge = base64.urlsafe_b64encode(hashlib.sha256(b"").digest()).decode().rstrip("=")
    for query_string in ({"code": code}, {"code": code, "state": ""}):
        victim = sso.browser()
        answer = victim.get(CALLBACK, params=query_string)
        assert (answer.status_code, victim.who()) == (403, None)
        assert "does not belong to a sign-in that this browser began" in answer.text


def test_answer_is_good_for_one_sign_in(sso: Site, provider: FakeProvider) -> None:
    provider.user("1", preferred_username="ana", roles=["admin"])
    browser = sso.browser()
    address = come_back(browser, provider, "1")
    assert browser.get(address).status_code == 303
    assert browser.get(address).status_code == 403


def test_code_of_another_browser_fails_for_its_verifier(sso: Site, provider: FakeProvider) -> None:
    provider.user("1", preferred_username="ana", roles=["admin"])
    stolen = parse_qs(urlsplit(come_back(sso.browser(), provider, "1")).query)["code"][0]
    thief = sso.browser()
    started = thief.get("/auth/oidc/start")
    state = parse_qs(urlsplit(started.headers["location"]).query)["state"][0]
    answer = thief.get(CALLBACK, params={"code": stolen, "state": state})
    assert answer.status_code == 403
    assert "did not accept this sign-in" in answer.text


def test_refusal_of_the_provider_is_shown_without_its_text(sso: Site, provider: FakeProvider) -> None:
    browser = sso.browser()
    started = browser.get("/auth/oidc/start")
    state = parse_qs(urlsplit(started.headers["location"]).query)["state"][0]
    marker = "<script>marker</script>"
    query = {"state": state, "error": "access_denied", "error_description": marker}
    answer = browser.get(CALLBACK, params=query)
    assert answer.status_code == 403
    assert "did not let you sign in" in answer.text
    assert "marker" not in answer.text


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://evil.test"},
        {"token_endpoint": "http://evil.test/token"},
        {"jwks_uri": "http://evil.test/keys"},
        {"authorization_endpoint": "javascript:alert(1)"},
    ],
)
def test_unusable_configuration_document_is_refused(
    sso: Site, provider: FakeProvider, document: dict[str, str]
) -> None:
    provider.document = document
    answer = sso.browser().get("/auth/oidc/start")
    assert answer.status_code == 503
    assert "configuration document" in answer.text


def test_provider_that_is_away_leaves_passwords_working(users_url: URL) -> None:
    with fake_provider() as provider:
        away = variables(users_url, provider)
    ui = site(away)
    ui.add("ana")
    assert ui.browser().get("/auth/oidc/start").status_code == 503
    assert ui.browser().sign_in("ana").status_code == 303


def test_without_a_provider_there_is_no_single_sign_on(ui: Site) -> None:
    browser = ui.browser()
    assert "oidc" not in browser.get("/auth/login").text
    for path in ("/auth/oidc/start", CALLBACK):
        assert browser.get(path).status_code == 404


def test_no_secret_of_a_sign_in_is_logged(
    sso: Site, provider: FakeProvider, users_url: URL, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    provider.user("1", preferred_username="ana", roles=["admin"])
    browser = sso.browser()
    sign_in(browser, provider)
    provider.change_claims = wrong_nonce
    sign_in(sso.browser(), provider)
    settings = LoginSettings.from_environment(variables(users_url, provider))
    # Lines of the provider and of the browser are not ours.
    others = ("oidc_provider_mock", "werkzeug", "authlib.oauth2.rfc", "httpx", "httpcore")
    ours = [each.getMessage() for each in caplog.records if not each.name.startswith(others)]
    text = "".join(ours) + repr(settings)
    sent = provider.token_requests[-1]
    assert sent["code_verifier"]
    for secret in (CLIENT_SECRET, sent["code_verifier"], sent["code"], "eyJ"):
        assert secret not in text


MAPPED = {
    "SYNC_PIPELINE_OIDC_ROLE_CLAIM": "realm_access.roles",
    "SYNC_PIPELINE_OIDC_ROLE_MAP": "data-admins=admin, cn=analysts,=viewer".replace(",=", "="),
    "SYNC_PIPELINE_OIDC_NAME_CLAIM": "email",
}


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        ({"realm_access": {"roles": ["data-admins"]}}, Role.ADMIN),
        ({"realm_access": {"roles": ["cn=analysts"]}}, Role.VIEWER),
        ({"realm_access": {"roles": ["cn=analysts", "data-admins"]}}, Role.ADMIN),
        ({"realm_access.roles": "data-admins"}, Role.ADMIN),
        ({"realm_access": {"roles": ["admin"]}}, None),
        ({"realm_access": "data-admins"}, None),
        ({"roles": ["data-admins"]}, None),
    ],
)
def test_roles_are_mapped_from_groups(
    users_url: URL, provider: FakeProvider, claims: Claims, role: Role | None
) -> None:
    for default in (None, Role.LAUNCHER):
        changes = {**MAPPED, "SYNC_PIPELINE_OIDC_DEFAULT_ROLE": default or ""}
        settings = LoginSettings.from_environment(variables(users_url, provider, **changes)).oidc
        assert settings
        known = {"sub": "1", "email": "ana@example.com", **claims}
        if role or default:
            assert identity(known, settings).role == (role or default)
        else:
            with pytest.raises(SignInRefusedError):
                identity(known, settings)


@pytest.mark.parametrize("verified", [False, "false"])
def test_unverified_email_address_is_no_name(users_url: URL, provider: FakeProvider, verified: object) -> None:
    settings = LoginSettings.from_environment(variables(users_url, provider, **MAPPED)).oidc
    assert settings
    claims = {"sub": "1", "email": "ana@example.com", "email_verified": verified, "realm_access.roles": "data-admins"}
    with pytest.raises(SignInRefusedError):
        identity(claims, settings)
