"""Keeping secrets out of every text that leaves this package: messages, logs, reprs."""

import logging
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus
from weakref import WeakSet

from sync_pipeline.sources.limits import MAX_REDACTED_LENGTH

HIDDEN = "***"

_URL_VALUE = re.compile(
    r"(api_key|access_token|input_token|appsecret_proof)((?:=|%3D|\\u003d))[^&\s\"'<>\\]+", re.IGNORECASE
)
_JSON_VALUE = re.compile(
    r"(api_key|access_token|input_token|appsecret_proof)(\\?\"\s*:\s*\\?\")[^\"\\]+", re.IGNORECASE
)
_BEARER = re.compile(r"\b(Bearer|OAuth)(\s+)[A-Za-z0-9._~+/=|-]{8,}", re.IGNORECASE)


_PERCENT_CODE = re.compile("%[0-9A-F]{2}")
_QUOTED_COLON = re.compile("%3a", re.IGNORECASE)
# What a URL in a sentence ends at, if it has no blanks.
_WORD = re.compile(r"[^\s\"'<>`]+")


class Secret:
    """A text that only `reveal` shows."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return f"Secret({HIDDEN})"

    def __reduce__(self) -> tuple[object, ...]:
        msg = "a secret is not to be stored"
        raise TypeError(msg)

    def reveal(self) -> str:
        """The text itself, for the one place that sends it."""
        return self._value


class Redactor:
    """Takes known secrets, and the values of parameters that carry secrets, out of any text."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        forms: set[str] = set()
        for secret in secrets:
            value = secret.reveal()
            encoded = {quote(value), quote(value, safe=""), quote_plus(value)}
            # Some servers write %2f for %2F, and JSON may write a slash as \/.
            forms |= {value, value.replace("/", r"\/"), *encoded}
            forms |= {_PERCENT_CODE.sub(lambda code: code[0].lower(), form) for form in encoded}
        # Longest first: a secret may be part of another's quoted form.
        self._forms = [Secret(form) for form in sorted(forms - {""}, key=len, reverse=True)]
        _LIVE.add(self)

    def __call__(self, text: str) -> str:
        """The text with each secret as ***, cut to 100,000 characters: what is shown of it is far shorter."""
        text = self._cut(text)
        for form in self._forms:
            text = text.replace(form.reveal(), HIDDEN)
        return hide_credentials(hide_parameters(text))

    def _cut(self, text: str) -> str:
        if len(text) <= MAX_REDACTED_LENGTH:
            return text
        text = text[:MAX_REDACTED_LENGTH]
        # The first part of a secret at the cut would not be recognized as one.
        for form in self._forms:
            value = form.reveal()
            part = next((n for n in range(len(value) - 1, 0, -1) if text.endswith(value[:n])), 0)
            text = text[: len(text) - part]
        return text


def hide_credentials(text: str) -> str:
    """The text with the password of every URL as ***, with or without a scheme: `user:***@host`.

    A password may contain `/`, `:` and `@`, so that everything up to the last @ of a word is hidden. A URL with a user
    alone loses the user, who may be a token.
    """
    if "@" not in text and "%40" not in text:
        return text
    return _WORD.sub(_without_credentials, text)


def _without_credentials(word: re.Match[str]) -> str:
    found = word[0]
    at = max(found.rfind("@"), found.rfind("%40"))
    if at < 0:
        return found
    before, after = found[:at], found[at:]
    # The first `//` ends the scheme, and only where no colon other than the scheme's comes before it.
    scheme, slashes, credentials = before.partition("//")
    if not slashes or ":" in scheme.removesuffix(":"):
        scheme, slashes, credentials = "", "", before
    user, colon, _ = credentials.partition(":")
    if not colon and (quoted_colon := _QUOTED_COLON.search(credentials)):
        user, colon = credentials[: quoted_colon.start()], quoted_colon[0]
    if colon:
        return f"{scheme}{slashes}{user}{colon}{HIDDEN}{after}"
    if slashes and "/" not in credentials:
        return f"{scheme}{slashes}{HIDDEN}{after}"
    return found


def hide_parameters(text: str) -> str:
    """The text with the value of every api_key, access_token, input_token and appsecret_proof as ***."""
    for pattern in (_URL_VALUE, _JSON_VALUE, _BEARER):
        text = pattern.sub(rf"\1\2{HIDDEN}", text)
    return text


class RedactingFilter(logging.Filter):
    """Rewrites log records: urllib3's DEBUG lines hold whole request paths, and so Pancake's key."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact the record in place and keep it."""
        text = hide_credentials(hide_parameters(record.getMessage()))
        for redactor in list(_LIVE):
            text = redactor(text)
        record.msg, record.args = text, ()
        # A traceback's text would come after this filter, and holds URLs too.
        record.exc_info = record.exc_text = None
        return True


def guard_logs() -> None:
    """Install the filter on urllib3's loggers, once each.

    A logger's filter sees only what is logged to that very logger, so the parent alone is not enough.
    """
    known = [name for name in logging.root.manager.loggerDict if name.startswith("urllib3.")]
    for name in ("urllib3", "urllib3.connectionpool", *known):
        logger = logging.getLogger(name)
        if _FILTER not in logger.filters:
            logger.addFilter(_FILTER)


_LIVE: "WeakSet[Redactor]" = WeakSet()
_FILTER = RedactingFilter()
