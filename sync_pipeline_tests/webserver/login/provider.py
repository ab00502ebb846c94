"""An OpenID Connect provider on this machine, which can be told to answer wrongly."""

import base64
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import flask
import oidc_provider_mock
import requests
from joserfc import jwt
from joserfc.jwk import RSAKey
from werkzeug.serving import make_server

Claims = dict[str, Any]


@dataclass
class FakeProvider:
    """The provider; `change_claims` and `sign_with` spoil its next ID tokens, `document` its configuration."""

    app: flask.Flask
    issuer: str = ""
    change_claims: Callable[[Claims], Claims] = lambda claims: claims
    sign_with: RSAKey | None = None
    document: dict[str, str] = field(default_factory=dict)
    token_requests: list[dict[str, str]] = field(default_factory=list)
    challenge: str = ""

    def user(self, subject: str, **claims: Any) -> None:
        requests.put(f"{self.issuer}/users/{subject}", json=claims, timeout=30).raise_for_status()

    def authorize(self, url: str, subject: str) -> str:
        """Sign in at the provider; returns the address that it sends the browser to."""
        self.challenge = parse_qs(urlsplit(url).query)["code_challenge"][0]
        assert parse_qs(urlsplit(url).query)["code_challenge_method"] == ["S256"]
        answer = requests.post(url, data={"sub": subject}, allow_redirects=False, timeout=30)
        return answer.headers["location"]

    def _check_verifier(self) -> flask.Response | None:
        """The mock does not look at PKCE by itself."""
        if flask.request.path != "/oauth2/token":
            return None
        self.token_requests.append(flask.request.form.to_dict())
        digest = hashlib.sha256(flask.request.form.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(digest).decode().rstrip("=") != self.challenge:
            return flask.make_response({"error": "invalid_grant"}, 400)
        return None

    def _spoil(self, response: flask.Response) -> flask.Response:
        body = response.get_json(silent=True)
        if flask.request.path.endswith("openid-configuration"):
            response.set_data(flask.json.dumps({**body, **self.document}))
        elif isinstance(body, dict) and "id_token" in body:
            key = RSAKey.import_key(flask.g.oidc_provider_mock_storage.jwk.as_dict(is_private=True))
            token = jwt.decode(body["id_token"], key)
            claims = self.change_claims(dict(token.claims))
            header = {"alg": "RS256", "kid": token.header.get("kid", key.kid)}
            body["id_token"] = jwt.encode(header, claims, self.sign_with or key)
            response.set_data(flask.json.dumps(body))
        return response


@contextmanager
def fake_provider() -> Iterator[FakeProvider]:
    provider = FakeProvider(oidc_provider_mock.app())
    provider.app.before_request(provider._check_verifier)
    provider.app.after_request(provider._spoil)
    server = make_server("127.0.0.1", 0, provider.app, threaded=True)
    provider.issuer = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
