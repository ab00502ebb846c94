"""Settings of the login."""

from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.webserver.login.errors import LoginSettingsError
from sync_pipeline.webserver.login.settings import LoginSettings, trusted_proxies
from sync_pipeline.webserver.roles import Role
from sync_pipeline_tests.webserver.login.site import environment

URL = make_url("postgresql+psycopg2://u:p@localhost/dagster")
OIDC = {"SYNC_PIPELINE_OIDC_ISSUER": "https://id.example/realm", "SYNC_PIPELINE_OIDC_CLIENT_ID": "sync-pipeline"}


def test_defaults_are_those_of_the_readme() -> None:
    settings = LoginSettings.from_environment(environment(URL, **OIDC))
    assert settings.service_token
    assert settings.service_token.role is Role.VIEWER
    oidc = settings.oidc
    assert oidc
    assert (oidc.redirect_uri, oidc.name_claim, oidc.role_claim, oidc.default_role, oidc.client_secret) == (
        "https://ui.example/auth/oidc/callback",
        "preferred_username",
        "roles",
        None,
        None,
    )
    assert dict(oidc.role_map) == {role.value: role for role in Role}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DAGSTER_AUTH_SECRET_KEY", ""),
        ("DAGSTER_AUTH_SECRET_KEY", "marker too short"),
        ("DAGSTER_AUTH_SERVICE_TOKEN", "marker too short"),
        ("DAGSTER_AUTH_SERVICE_TOKEN_ROLE", "marker"),
        ("DAGSTER_POSTGRES_URL", ""),
        ("DAGSTER_POSTGRES_URL", "postgresql://u:marker@h"),
        ("DAGSTER_POSTGRES_URL", "mysql://u:marker@h/d"),
        ("SYNC_PIPELINE_OIDC_ISSUER", "http://marker.example"),
        ("SYNC_PIPELINE_OIDC_ISSUER", "https://"),
        ("SYNC_PIPELINE_OIDC_ISSUER", "http://[marker"),
        ("SYNC_PIPELINE_OIDC_CLIENT_ID", ""),
        ("SYNC_PIPELINE_OIDC_CLIENT_SECRET_FILE", "/no/such/marker"),
        ("SYNC_PIPELINE_OIDC_ROLE_MAP", "marker"),
        ("SYNC_PIPELINE_OIDC_ROLE_MAP", "group=marker"),
        ("SYNC_PIPELINE_OIDC_ROLE_MAP", "=admin"),
        ("SYNC_PIPELINE_OIDC_DEFAULT_ROLE", "marker"),
        ("SYNC_PIPELINE_UI_URL", ""),
    ],
)
def test_unusable_value_is_an_error_that_names_the_variable(variable: str, value: str) -> None:
    with pytest.raises(SyncPipelineError, match=variable) as raised:
        LoginSettings.from_environment(environment(URL, **{**OIDC, variable: value}))
    assert "marker" not in str(raised.value)


def test_client_secret_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("marker-of-the-client-secret\n")
    variables = environment(URL, **OIDC, SYNC_PIPELINE_OIDC_CLIENT_SECRET_FILE=str(file))
    settings = LoginSettings.from_environment(variables)
    assert settings.oidc
    assert settings.oidc.client_secret == "marker-of-the-client-secret"
    assert "marker" not in repr(settings)


@pytest.mark.parametrize(
    ("value", "trusted"),
    [("", ""), ("10.1.2.3", "10.1.2.3"), ("10.1.2.3, 2001:db8::/64 ", "10.1.2.3,2001:db8::/64")],
)
def test_listed_proxies_are_trusted(value: str, trusted: str) -> None:
    assert trusted_proxies({"FORWARDED_ALLOW_IPS": value}) == trusted
    assert trusted_proxies({}) == ""


@pytest.mark.parametrize(
    "value", ["*", "10.1.2.3,*", "0.0.0.0/0", "::/0", "proxy.example", "10.0.0.0/33", "10.1.2.3/8"]
)
def test_proxies_that_are_no_addresses_are_an_error(value: str) -> None:
    with pytest.raises(LoginSettingsError, match="FORWARDED_ALLOW_IPS"):
        trusted_proxies({"FORWARDED_ALLOW_IPS": value})
