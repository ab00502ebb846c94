"""Accounts, shops and keys that an API refuses permanently, which a run with `on_error: continue` goes on without."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from sync_pipeline.date_ranges import spans
from sync_pipeline.sources import errors as source_errors
from sync_pipeline.sources.errors import (
    ApiError,
    BadRequestError,
    PermissionDeniedError,
    Place,
    SourceError,
    TokenError,
)
from sync_pipeline.sources.graph_errors import UNKNOWN_OBJECT
from sync_pipeline.sync import META, POS
from sync_pipeline.sync.errors import NothingListedError, PlacedError, SyncError

# Payment required, forbidden, not found and gone say something about the account or shop, not about the days.
_FINAL_STATUSES: Final = frozenset({402, 403, 404, 410})
_STORED_FIELDS: Final = ("http_status", "code", "subcode", "api_message", "fbtrace_id", "outline")
_KEY: Final = "key in "


def refuses_every_day(error: PlacedError) -> bool:
    """Whether the API will refuse the account or shop whatever day is requested, until somebody changes something."""
    if isinstance(error, BadRequestError):
        return (error.code, error.subcode) == UNKNOWN_OBJECT or error.http_status in _FINAL_STATUSES
    if isinstance(error, ApiError):
        # Pancake refuses with HTTP 200 and success: false, for example a shop whose subscription has expired.
        refused = error.http_status is not None and (error.http_status < 400 or error.http_status in _FINAL_STATUSES)
        return refused and error.place.source == POS
    if isinstance(error, TokenError):
        # A tenant may have several keys of Pancake, but has one token of Meta.
        return error.place.source == POS
    return isinstance(error, PermissionDeniedError | NothingListedError)


def refuses(error: PlacedError) -> bool:
    """Whether the API refuses the account or shop itself, so that the rows of the others are stored without it.

    Unlike with `refuses_every_day`, the size of a window may be the reason. Transient errors, rate limits, unreadable
    responses, and errors of what all accounts or shops share, such as Meta's token, are no refusals.
    """
    return refuses_every_day(error) or isinstance(error, ApiError | BadRequestError)


def key_scope(source: str) -> str:
    """Return the name that stands for the unknown shops of a key, which comes from `source`."""
    return f"{_KEY}{source}"


def is_key_scope(scope: str) -> bool:
    """Whether a scope is the unknown shops of a key."""
    return scope.startswith(_KEY)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error, and the accounts or shops that it refuses for the rest of a run.

    A key whose shops are not known has `key_scope` in their place. `days` were stored without them.
    """

    error: PlacedError
    scopes: tuple[str, ...]
    days: tuple[date, ...] = ()

    @property
    def missing(self) -> list["MissingScope"]:
        """Each of the accounts or shops."""
        place = self.error.place
        return [MissingScope(place.tenant, place.source, scope, self.days) for scope in self.scopes]


@dataclass(frozen=True, slots=True)
class MissingScope:
    """An account, a shop, or the shops of a key, and the days that were stored without it."""

    tenant_id: str
    source: str
    scope: str
    days: tuple[date, ...]

    @property
    def name(self) -> str:
        """The account or shop as a sentence names it."""
        if self._is_key:
            return f"the shops of the {self.scope}"
        return f"{'account' if self.source == META else 'shop'} {self.scope}"

    @property
    def command(self) -> str | None:
        """The command that excludes it from syncs; None for a key, which only the tenant file can leave out."""
        if self._is_key:
            return None
        return f"sync-pipeline {'accounts' if self.source == META else 'shops'} disable {self.tenant_id} {self.scope}"

    @property
    def remedy(self) -> str:
        """How to sync without it, as an imperative clause."""
        if self.command is None:
            return "correct the key, or remove it from the tenant file"
        return f"to sync without it, run: {self.command}"

    @property
    def sentence(self) -> str:
        """What is missing, where, and what to do about it."""
        days = f" for {listed_days(self.days)}" if self.days else ""
        return f"{self.source}: rows of {self.name} are missing{days}; {self.remedy}"

    def metadata(self) -> dict[str, str | None]:
        """The same as flat values."""
        kind = "key" if self._is_key else "account_id" if self.source == META else "shop_id"
        return {
            "source": self.source,
            kind: self.scope.removeprefix(_KEY),
            "since": min(self.days).isoformat() if self.days else None,
            "until": max(self.days).isoformat() if self.days else None,
            "command": self.command,
            "sentence": self.sentence,
        }

    @property
    def _is_key(self) -> bool:
        return is_key_scope(self.scope)


def listed_days(days: Iterable[date]) -> str:
    """Return days as the ranges they make up."""
    return ", ".join(str(span.since) if len(span) == 1 else f"{span.since} to {span.until}" for span in spans(days))


def error_facts(error: PlacedError) -> dict[str, Any]:
    """Return what `error_from` makes the same error of, but for its days: nothing in it is secret."""
    fields = {name: getattr(error, name) for name in _STORED_FIELDS} if isinstance(error, SourceError) else {}
    known = {name: value for name, value in fields.items() if value is not None}
    place = {name: getattr(error.place, name) for name in ("account_id", "shop_id", "key")}
    return {"type": type(error).__name__, "what": error.what, **known, **place}


def to_store(refusal: Refusal) -> list[tuple[str, str, dict[str, Any]]]:
    """Return what later steps of the run read a refusal from: each scope with the error as a sentence and as facts."""
    facts = error_facts(refusal.error)
    return [(scope, str(refusal.error), facts) for scope in refusal.scopes]


def error_from(tenant_id: str, source: str, facts: dict[str, Any]) -> PlacedError:
    """Make an error of what `error_facts` returned, which another step of the run has stored."""
    place = Place(tenant_id, source, account_id=facts["account_id"], shop_id=facts["shop_id"], key=facts["key"])
    known = {name: facts[name] for name in _STORED_FIELDS if name in facts}
    kind = getattr(source_errors, facts["type"], None)
    if isinstance(kind, type) and issubclass(kind, SourceError):
        return kind(place, facts["what"], **known)
    return (NothingListedError if facts["type"] == NothingListedError.__name__ else SyncError)(place, facts["what"])


def stored_refusals(tenant_id: str, source: str, stored: Iterable[tuple[str, dict[str, Any]]]) -> list[Refusal]:
    """Return the refusals that an earlier step of the run has stored: scopes, each with its `error_facts`."""
    found: list[tuple[dict[str, Any], list[str]]] = []
    for scope, facts in stored:
        scopes = next((scopes for known, scopes in found if known == facts), None)
        if scopes is None:
            found.append((facts, [scope]))
        else:
            scopes.append(scope)
    return [Refusal(error_from(tenant_id, source, facts), tuple(scopes)) for facts, scopes in found]


def distinct(errors: Iterable[PlacedError]) -> list[PlacedError]:
    """Return the errors in their order, each once though it may refuse several shops."""
    found: dict[int, PlacedError] = {}
    for error in errors:
        found.setdefault(id(error), error)
    return list(found.values())
