"""Settings of the login, from the environment."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy.engine import URL

from sync_pipeline.files import FileReadError, read_text_file
from sync_pipeline.warehouse import database
from sync_pipeline.webserver.login.errors import LoginSettingsError
from sync_pipeline.webserver.roles import Role

SECRET_KEY_VARIABLE = "DAGSTER_AUTH_SECRET_KEY"  # noqa: S105
SERVICE_TOKEN_VARIABLE = "DAGSTER_AUTH_SERVICE_TOKEN"  # noqa: S105
SERVICE_ROLE_VARIABLE = "DAGSTER_AUTH_SERVICE_TOKEN_ROLE"
PROXIES_VARIABLE = "FORWARDED_ALLOW_IPS"
UI_URL_VARIABLE = "SYNC_PIPELINE_UI_URL"
ISSUER_VARIABLE = "SYNC_PIPELINE_OIDC_ISSUER"
CLIENT_ID_VARIABLE = "SYNC_PIPELINE_OIDC_CLIENT_ID"
CLIENT_SECRET_VARIABLE = "SYNC_PIPELINE_OIDC_CLIENT_SECRET"  # noqa: S105
CLIENT_SECRET_FILE_VARIABLE = f"{CLIENT_SECRET_VARIABLE}_FILE"
SCOPE_VARIABLE = "SYNC_PIPELINE_OIDC_SCOPE"
NAME_CLAIM_VARIABLE = "SYNC_PIPELINE_OIDC_NAME_CLAIM"
ROLE_CLAIM_VARIABLE = "SYNC_PIPELINE_OIDC_ROLE_CLAIM"
ROLE_MAP_VARIABLE = "SYNC_PIPELINE_OIDC_ROLE_MAP"
DEFAULT_ROLE_VARIABLE = "SYNC_PIPELINE_OIDC_DEFAULT_ROLE"

SECRET_LENGTH = 32
MAX_SECRET_FILE_BYTES = 65_536
CALLBACK_PATH = "/auth/oidc/callback"
# Roles of dagster-authkit that are called differently here.
ROLE_ALIASES = {"editor": Role.LAUNCHER}


@dataclass(frozen=True, slots=True)
class ServiceToken:
    """The token with which programs authenticate, and their role."""

    value: str = field(repr=False)
    role: Role


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """An OpenID Connect provider, and how its claims become a user."""

    issuer: str
    client_id: str
    client_secret: str | None = field(repr=False)
    redirect_uri: str
    scope: str
    name_claim: str
    role_claim: str
    role_map: Mapping[str, Role]
    default_role: Role | None


@dataclass(frozen=True, slots=True)
class LoginSettings:
    """What the login needs to know; secrets are left out of the repr."""

    database_url: URL = field(repr=False)
    secret_key: str = field(repr=False)
    service_token: ServiceToken | None
    oidc: OidcSettings | None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "LoginSettings":
        """Read the variables; an empty one counts as unset. Raises `SyncPipelineError`."""
        return cls(
            secret_key=_secret_key(environ),
            service_token=_service_token(environ),
            oidc=_oidc(environ),
            database_url=users_database(environ),
        )


def users_database(environ: Mapping[str, str]) -> URL:
    """URL of the database that holds the users: Dagster's. Raises `SyncPipelineError`."""
    value = environ.get(database.DAGSTER_VARIABLE)
    if not value:
        raise LoginSettingsError(database.DAGSTER_VARIABLE, "must be set: users are stored in Dagster's database")
    url = database.parse_url(value, database.DAGSTER_VARIABLE)
    if not url.database:
        raise LoginSettingsError(database.DAGSTER_VARIABLE, "must name a database")
    return url


def trusted_proxies(environ: Mapping[str, str]) -> str:
    """Addresses and networks whose X-Forwarded-For is trusted, as uvicorn reads them; none unless they are listed.

    Raises `LoginSettingsError` for anything else, because uvicorn would accept it silently: `*` trusts everybody, and a
    misspelled address nobody.
    """
    proxies = [entry.strip() for entry in environ.get(PROXIES_VARIABLE, "").split(",") if entry.strip()]
    for proxy in proxies:
        try:
            network = ipaddress.ip_network(proxy)
        except ValueError:
            network = None
        if network is None or network.prefixlen == 0:
            raise LoginSettingsError(
                PROXIES_VARIABLE,
                f"must list the addresses or networks of your proxies, separated by commas; '{proxy}' is not allowed",
            )
    return ",".join(proxies)


def parse_role(value: str) -> Role | None:
    """The role of this name, in upper or lower case."""
    name = value.strip().lower()
    return ROLE_ALIASES.get(name) or (Role(name) if name in set(Role) else None)


def _secret_key(environ: Mapping[str, str]) -> str:
    secret = environ.get(SECRET_KEY_VARIABLE, "")
    if len(secret) < SECRET_LENGTH:
        raise LoginSettingsError(
            SECRET_KEY_VARIABLE,
            f"must be set to a secret of at least {SECRET_LENGTH} characters, the same for every webserver; create one "
            "with `openssl rand -base64 33`",
        )
    return secret


def _service_token(environ: Mapping[str, str]) -> ServiceToken | None:
    token = environ.get(SERVICE_TOKEN_VARIABLE, "")
    if not token:
        return None
    if len(token) < SECRET_LENGTH:
        raise LoginSettingsError(SERVICE_TOKEN_VARIABLE, f"must have at least {SECRET_LENGTH} characters, or be unset")
    return ServiceToken(token, _role(environ, SERVICE_ROLE_VARIABLE) or Role.VIEWER)


def _role(environ: Mapping[str, str], variable: str) -> Role | None:
    value = environ.get(variable, "")
    if not value:
        return None
    role = parse_role(value)
    if role is None:
        raise LoginSettingsError(variable, f"must be one of {', '.join(Role)}")
    return role


def _oidc(environ: Mapping[str, str]) -> OidcSettings | None:
    issuer = environ.get(ISSUER_VARIABLE, "")
    if not issuer:
        return None
    if not is_confidential(issuer):
        raise LoginSettingsError(ISSUER_VARIABLE, "must be an https:// URL")
    for variable in (CLIENT_ID_VARIABLE, UI_URL_VARIABLE):
        if not environ.get(variable):
            raise LoginSettingsError(variable, f"must be set when {ISSUER_VARIABLE} is")
    return OidcSettings(
        issuer=issuer,
        client_id=environ[CLIENT_ID_VARIABLE],
        client_secret=_client_secret(environ),
        # From the configured address and never from the Host header, which the client controls.
        redirect_uri=environ[UI_URL_VARIABLE].rstrip("/") + CALLBACK_PATH,
        scope=environ.get(SCOPE_VARIABLE) or "openid profile email",
        name_claim=environ.get(NAME_CLAIM_VARIABLE) or "preferred_username",
        role_claim=environ.get(ROLE_CLAIM_VARIABLE) or "roles",
        role_map=_role_map(environ),
        default_role=_role(environ, DEFAULT_ROLE_VARIABLE),
    )


def is_confidential(url: str) -> bool:
    """Whether requests to the URL cannot be read on the way: by TLS, or because it is on this machine."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    local = parts.scheme == "http" and parts.hostname in {"localhost", "127.0.0.1", "::1"}
    return local or (parts.scheme == "https" and bool(parts.hostname))


def _client_secret(environ: Mapping[str, str]) -> str | None:
    secret = environ.get(CLIENT_SECRET_VARIABLE)
    file = environ.get(CLIENT_SECRET_FILE_VARIABLE)
    if secret or not file:
        return secret or None
    try:
        return read_text_file(Path(file), MAX_SECRET_FILE_BYTES).strip()
    except FileReadError as error:
        raise LoginSettingsError(CLIENT_SECRET_FILE_VARIABLE, f"must name a text file: it {error.why}") from None


def _role_map(environ: Mapping[str, str]) -> Mapping[str, Role]:
    """Claim values to roles, from `value=role,value=role`; unset, the claim holds the roles' own names."""
    entries = [entry for entry in environ.get(ROLE_MAP_VARIABLE, "").split(",") if entry.strip()]
    if not entries:
        return {role.value: role for role in Role}
    role_map = {}
    for entry in entries:
        value, separator, name = entry.rpartition("=")
        role = parse_role(name)
        if not separator or not value.strip() or role is None:
            raise LoginSettingsError(
                ROLE_MAP_VARIABLE, f"must look like `group=role,group=role`, with roles {', '.join(Role)}"
            )
        role_map[value.strip()] = role
    return role_map
