"""When a tenant's access to Meta ends: its API version, its token, and the token's access to data.

`fetch_expiries` asks Meta, `findings` is pure and says what a user should know of the answer on a given day.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Final

from sync_pipeline.sources.errors import (
    ApiError,
    ApiVersionError,
    AppProofError,
    BadRequestError,
    PermissionDeniedError,
    SourceError,
    TokenError,
)
from sync_pipeline.sources.graph_versions import NEWEST_VERSION, Lifetime, version_status
from sync_pipeline.sources.meta import MetaClient, TokenInfo
from sync_pipeline.sync import META
from sync_pipeline.warehouse.credentials import CredentialExpiry, CredentialState, Subject

WARN_BEFORE: Final = timedelta(days=60)
# The daily check may fail on a bad day of Meta, but not unnoticed for long.
OUTDATED_AFTER: Final = timedelta(days=3)


@dataclass(frozen=True, slots=True)
class _Words:
    """How a sentence names a subject and its end, and what a user does about it."""

    name: str
    end: str
    ended: str
    advice: str


_WORDS: Final[Mapping[Subject, _Words]] = {
    Subject.TOKEN: _Words(
        "the token", "expire", "expired", "renew it, and put the new one where the tenant file says it is"
    ),
    Subject.DATA_ACCESS: _Words(
        "the token's access to data", "end", "ended", "its user has to grant access again, with a new token"
    ),
}


class Outlook(StrEnum):
    """What is to be expected of a subject. OUTDATED: it was not checked for some days."""

    VALID = "valid"
    ENDING = "ending"
    ENDED = "ended"
    UNKNOWN = "unknown"
    OUTDATED = "outdated"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a user should know of one subject, in a sentence. None: it has no end, or none is known."""

    subject: Subject
    outlook: Outlook
    sentence: str
    ends_at: datetime | None = None
    checked_at: datetime | None = None

    @property
    def is_warning(self) -> bool:
        """Whether something has to be done, while syncs still work."""
        return self.outlook in (Outlook.ENDING, Outlook.OUTDATED)

    @property
    def is_problem(self) -> bool:
        """Whether it has ended, so that syncs fail or may fail at any time."""
        return self.outlook is Outlook.ENDED


@dataclass(frozen=True, slots=True)
class Fetched:
    """What Meta told. `untold` is its refusal to tell when the token ends, which needs no action."""

    expiries: tuple[CredentialExpiry, ...]
    untold: SourceError | None = None


def fetch_expiries(client: MetaClient, api_version: str, now: datetime) -> Fetched:
    """Ask Meta about the token, in one request.

    Raises the `SourceError` of an answer that says nothing about the token, such as a failure of Meta or of a proxy.
    """
    version = _version_expiry(api_version, CredentialState.VALID, now)
    try:
        info = client.debug_token()
    except (ApiVersionError, TokenError, AppProofError, BadRequestError, PermissionDeniedError, ApiError) as error:
        # Without a code of Graph it is somebody else's answer.
        if error.code is None:
            raise
        if isinstance(error, ApiVersionError):
            return Fetched((_version_expiry(api_version, CredentialState.REFUSED, now),))
        if isinstance(error, TokenError):
            return Fetched((version, _expiry(Subject.TOKEN, CredentialState.REFUSED, None, now)))
        unknown = (_expiry(subject, CredentialState.UNKNOWN, None, now) for subject in _WORDS)
        return Fetched((version, *unknown), untold=error)
    return Fetched((version, *_token_expiries(info, now)))


def findings(api_version: str, expiries: Collection[CredentialExpiry], now: datetime) -> list[Finding]:
    """Describe, as of `now`, when the API version, the token and its access to data end.

    `expiries` are what was last found, by the daily check or just now; the end of a version is known without them.
    """
    found = {expiry.subject: expiry for expiry in expiries if expiry.source == META}
    stored = found.get(Subject.API_VERSION)
    refused = stored is not None and (stored.version, stored.state) == (api_version, CredentialState.REFUSED)
    said = [_refused_version(api_version) if refused else version_finding(api_version, now)]
    said += [_finding(subject, found.get(subject), now) for subject in _WORDS]
    token = found.get(Subject.TOKEN)
    if token is not None and now - token.checked_at >= OUTDATED_AFTER:
        since = _moment(token.checked_at)
        sentence = f"the token was last checked on {since}; the daily check has failed since, or is switched off"
        said.append(Finding(Subject.TOKEN, Outlook.OUTDATED, sentence, checked_at=token.checked_at))
    return said


def version_finding(api_version: str, now: datetime) -> Finding:
    """Say what the table of versions knows of one, without a request."""
    status = version_status(api_version, now.astimezone(UTC).date())
    subject, name = Subject.API_VERSION, f"Meta's API version {api_version}"
    if status.ends_on is None:
        return Finding(subject, Outlook.VALID, f"{name} has no announced end")
    newer = f", such as {NEWEST_VERSION}" if api_version != NEWEST_VERSION else ""
    advice = f"set meta.api_version in the tenant file to a newer one{newer}"
    ends_at = _midnight(status.ends_on)
    if status.lifetime is Lifetime.ENDED:
        sentence = f"{name} ended on {status.ends_on}{'' if status.is_exact else ' or before'}; {advice}"
        return Finding(subject, Outlook.ENDED, sentence, ends_at)
    ends = f"{name} ends on {status.ends_on}{'' if status.is_exact else ' or before'}, {_in_days(ends_at, now)}"
    if ends_at - now > WARN_BEFORE:
        return Finding(subject, Outlook.VALID, ends, ends_at)
    return Finding(subject, Outlook.ENDING, f"{ends}; {advice}", ends_at)


def _finding(subject: Subject, expiry: CredentialExpiry | None, now: datetime) -> Finding:
    words = _WORDS[subject]
    name, advice = words.name, words.advice
    if expiry is None:
        return Finding(subject, Outlook.UNKNOWN, f"{name} was not checked yet")
    at, checked_at = expiry.ends_at, expiry.checked_at
    if at is not None and at <= now:
        return Finding(subject, Outlook.ENDED, f"{name} {words.ended} on {_moment(at)}; {advice}", at, checked_at)
    if expiry.state == CredentialState.REFUSED:
        sentence = f"Meta does not accept {name}, as of {_moment(checked_at)}; {advice}"
        return Finding(subject, Outlook.ENDED, sentence, at, checked_at)
    if at is not None:
        sentence = f"{name} {words.end}s on {_moment(at)}, {_in_days(at, now)}"
        if at - now > WARN_BEFORE:
            return Finding(subject, Outlook.VALID, sentence, at, checked_at)
        return Finding(subject, Outlook.ENDING, f"{sentence}; {advice}", at, checked_at)
    if expiry.state == CredentialState.UNKNOWN:
        return Finding(subject, Outlook.UNKNOWN, f"Meta does not tell when {name} {words.end}s", None, checked_at)
    return Finding(subject, Outlook.VALID, f"{name} does not {words.end}", None, checked_at)


def _refused_version(api_version: str) -> Finding:
    newer = f", such as {NEWEST_VERSION}" if api_version != NEWEST_VERSION else ""
    sentence = f"Meta refuses API version {api_version}; set meta.api_version in the tenant file to another one{newer}"
    return Finding(Subject.API_VERSION, Outlook.ENDED, sentence)


def _version_expiry(api_version: str, state: CredentialState, now: datetime) -> CredentialExpiry:
    ends_on = version_status(api_version, now.astimezone(UTC).date()).ends_on
    ends_at = _midnight(ends_on) if ends_on else None
    return CredentialExpiry(META, Subject.API_VERSION, state, ends_at, now, version=api_version)


def _token_expiries(info: TokenInfo, now: datetime) -> list[CredentialExpiry]:
    token = CredentialState.UNKNOWN if "expires_at" in info.untold else CredentialState.VALID
    access = CredentialState.UNKNOWN if "data_access_expires_at" in info.untold else CredentialState.VALID
    return [
        _expiry(Subject.TOKEN, token if info.is_valid else CredentialState.REFUSED, info.expires_at, now),
        _expiry(Subject.DATA_ACCESS, access, info.data_access_expires_at, now),
    ]


def _expiry(subject: Subject, state: CredentialState, ends_at: datetime | None, now: datetime) -> CredentialExpiry:
    return CredentialExpiry(META, subject, state, ends_at, now)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _moment(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _in_days(instant: datetime, now: datetime) -> str:
    days = (instant.astimezone(UTC).date() - now.astimezone(UTC).date()).days
    return "today" if days == 0 else f"in {days} day{'' if days == 1 else 's'}"
