"""Single sign-on by OpenID Connect: authorization code flow with PKCE, state and nonce."""

import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests
from authlib.common.security import generate_token
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from pydantic import BaseModel, ValidationError

from sync_pipeline.webserver.login.errors import ProviderUnavailableError, SignInRefusedError
from sync_pipeline.webserver.login.settings import OidcSettings, is_confidential
from sync_pipeline.webserver.login.users import NAME_LENGTH, SERVICE_USER, TEXT_LENGTH, Identity
from sync_pipeline.webserver.roles import Role

TIMEOUT_S = 10
CONFIGURATION_LIFETIME_S = 600
# How far the provider's clock may be from this one.
LEEWAY_S = 60
# Signatures by the provider's private key; never `none`, and no secret that this server has, too.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


class ProviderConfiguration(BaseModel):
    """What we need of a provider's configuration document."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    token_endpoint_auth_methods_supported: list[str] = ["client_secret_basic"]


@dataclass(frozen=True, slots=True)
class StartedSignIn:
    """The provider's page to go to, and what the browser has to keep until it comes back."""

    url: str
    state: str
    nonce: str
    code_verifier: str


class Provider:
    """An OpenID Connect provider."""

    def __init__(self, settings: OidcSettings) -> None:
        self._settings = settings
        self._configuration: ProviderConfiguration | None = None
        self._outdated_at = 0.0

    def start(self) -> StartedSignIn:
        """Begin to sign in. Raises `ProviderUnavailableError`."""
        configuration = self._load_configuration()
        verifier, nonce = generate_token(64), generate_token(32)
        with self._client(configuration) as client:
            url, state = client.create_authorization_url(
                configuration.authorization_endpoint, code_verifier=verifier, nonce=nonce
            )
        return StartedSignIn(url, state, nonce, verifier)

    def finish(self, query: Mapping[str, str], state: str, nonce: str, code_verifier: str) -> Identity:
        """Who comes back from the provider with this query string.

        Raises `SignInRefusedError`, or `ProviderUnavailableError`.
        """
        if not hmac.compare_digest(query.get("state", "").encode(), state.encode()):
            raise another_browser()
        # Providers that support it say who they are, which keeps the answers of two providers apart.
        if query.get("iss", self._settings.issuer) != self._settings.issuer:
            raise SignInRefusedError("issuer", "This answer comes from another identity provider.")
        if "error" in query or not query.get("code"):
            raise SignInRefusedError("provider", "The identity provider did not let you sign in.")
        configuration = self._load_configuration()
        token = self._fetch_token(configuration, query["code"], code_verifier)
        return identity(self._verified_claims(configuration, token, nonce), self._settings)

    def _client(self, configuration: ProviderConfiguration) -> OAuth2Session:
        supported = configuration.token_endpoint_auth_methods_supported
        post = "client_secret_post" in supported and "client_secret_basic" not in supported
        return OAuth2Session(
            client_id=self._settings.client_id,
            client_secret=self._settings.client_secret,
            token_endpoint_auth_method="client_secret_post" if post and self._settings.client_secret else None,
            scope=self._settings.scope,
            redirect_uri=self._settings.redirect_uri,
            code_challenge_method="S256",
            default_timeout=TIMEOUT_S,
        )

    def _load_configuration(self) -> ProviderConfiguration:
        if self._configuration is None or time.monotonic() >= self._outdated_at:
            document = _get_json(f"{self._settings.issuer.rstrip('/')}/.well-known/openid-configuration")
            try:
                configuration = ProviderConfiguration.model_validate(document)
            except ValidationError:
                raise ProviderUnavailableError("the provider's configuration document is not usable") from None
            if configuration.issuer != self._settings.issuer:
                raise ProviderUnavailableError("the provider's configuration document is of another issuer")
            endpoints = (configuration.authorization_endpoint, configuration.token_endpoint, configuration.jwks_uri)
            if not all(map(is_confidential, endpoints)):
                raise ProviderUnavailableError("the provider's configuration document has addresses without TLS")
            self._configuration = configuration
            self._outdated_at = time.monotonic() + CONFIGURATION_LIFETIME_S
        return self._configuration

    def _fetch_token(self, configuration: ProviderConfiguration, code: str, code_verifier: str) -> Mapping[str, Any]:
        try:
            with self._client(configuration) as client:
                token: Mapping[str, Any] = client.fetch_token(
                    configuration.token_endpoint,
                    code=code,
                    code_verifier=code_verifier,
                    grant_type="authorization_code",
                )
        # Neither cause is chained: both may quote what was sent or received, tokens included.
        except OAuthError:
            raise SignInRefusedError("code", "The identity provider did not accept this sign-in.") from None
        except (requests.RequestException, ValueError):
            raise ProviderUnavailableError("the identity provider did not answer properly") from None
        return token

    def _verified_claims(
        self, configuration: ProviderConfiguration, token: Mapping[str, Any], nonce: str
    ) -> Mapping[str, Any]:
        """Claims of the ID token, whose signature, issuer, audience, times and nonce are as they must be."""
        expected = {
            "iss": {"essential": True, "value": self._settings.issuer},
            "aud": {"essential": True, "value": self._settings.client_id},
        }
        parameters = {
            "nonce": nonce,
            "client_id": self._settings.client_id,
            "access_token": token.get("access_token"),
        }
        try:
            keys = KeySet.import_key_set(_get_json(configuration.jwks_uri))
            decoded = jwt.decode(str(token.get("id_token", "")), keys, algorithms=ALGORITHMS)
            claims = CodeIDToken(decoded.claims, decoded.header, expected, parameters)
            claims.validate(leeway=LEEWAY_S)
        except (JoseError, ValueError, KeyError, TypeError) as error:
            # By its type alone: the text may quote a claim.
            reason = f"id_token {type(error).__name__}"
            raise SignInRefusedError(reason, "The identity provider's answer could not be verified.") from None
        return dict(claims)


def another_browser() -> SignInRefusedError:
    """The refusal of an answer that this browser did not ask for: whoever did could sign it in as themselves."""
    return SignInRefusedError("state", "This answer does not belong to a sign-in that this browser began.")


def identity(claims: Mapping[str, Any], settings: OidcSettings) -> Identity:
    """The user that the claims of an ID token describe. Raises `SignInRefusedError`."""
    name = claims.get(settings.name_claim)
    usable = isinstance(name, str) and 0 < len(name) <= NAME_LENGTH and name.isprintable() and name != SERVICE_USER
    if not isinstance(name, str) or not usable:
        raise SignInRefusedError("name", f"The identity provider gives no usable name for you ({settings.name_claim}).")
    # Some providers send text.
    if settings.name_claim == "email" and claims.get("email_verified") in (False, "false"):
        raise SignInRefusedError("name", "The identity provider has not verified your email address.")
    role = _role(claims, settings)
    if role is None:
        raise SignInRefusedError(
            "role", f"You have no role here: ask for one at the identity provider ({settings.role_claim})."
        )
    return Identity(
        issuer=settings.issuer,
        subject=str(claims["sub"]),
        name=name,
        role=role,
        full_name=_text(claims.get("name")),
        email=_text(claims.get("email")),
    )


def _role(claims: Mapping[str, Any], settings: OidcSettings) -> Role | None:
    """The highest role among the values of the role claim, which may be inside other claims (`realm_access.roles`)."""
    value: Any = claims.get(settings.role_claim)
    if value is None:
        value = claims
        for part in settings.role_claim.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    values = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    granted = {settings.role_map[each] for each in values if isinstance(each, str) and each in settings.role_map}
    return max(granted, key=list(Role).index, default=settings.default_role)


def _text(claim: Any) -> str:
    """A claim for the list of users, without what could disturb a terminal."""
    return "".join(filter(str.isprintable, claim))[:TEXT_LENGTH] if isinstance(claim, str) else ""


def _get_json(url: str) -> Any:
    try:
        response = requests.get(url, timeout=TIMEOUT_S)
        response.raise_for_status()
        return response.json()
    except (requests.RequestException, ValueError):
        raise ProviderUnavailableError("the identity provider cannot be reached") from None
