"""Posting texts to the tenants' webhooks: all tenants at once, none for long, and never an exception.

A webhook's address is a secret, so no reason given here repeats anything that the HTTP library says of it.
"""

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from urllib.parse import urlsplit

import requests
import urllib3.exceptions

from sync_pipeline.sources.http import PlainSession
from sync_pipeline.sources.redaction import Redactor, Secret, guard_logs
from sync_pipeline.tenants import MissingSecretError, SecretRef

CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 5.0
# Slack takes one message a second from a webhook; see https://docs.slack.dev/apis/web-api/rate-limits
PAUSE_S = 1.0
# No message is begun later than the first, and none waited for longer than the second; Dagster gives a tick 60 s.
BEGIN_WITHIN_S = 20.0
END_WITHIN_S = 30.0

# Answers of a hook that has not taken the message now and may take it later.
_LATER = {429, 502, 503, 504}


@dataclass(frozen=True, slots=True)
class Message:
    """A text and the webhook it is for."""

    hook: SecretRef
    text: str


@dataclass(frozen=True, slots=True)
class Undelivered:
    """Why a message did not get through. `again`: it surely was not taken, and may be if it is sent again."""

    why: str
    again: bool = False


# None: delivered.
Outcome = Undelivered | None
NO_TIME = Undelivered("its turn has not come yet", again=True)


def post_all(messages: Sequence[Message]) -> list[Outcome]:
    """Post every text to its hook as `{"text": ...}`; returns what became of each.

    Hooks are served side by side, the messages of one hook in turn. A hook that did not take one message is left alone
    for the rest of its own, and what cannot be begun in time is `NO_TIME`.
    """
    begun = time.monotonic()
    outcomes: list[Outcome] = [NO_TIME] * len(messages)
    threads = []
    for turns in _by_address(messages, outcomes).values():
        # Daemon threads, because a name server or an answer that trickles can outlast every timeout of a request.
        thread = threading.Thread(target=_post_in_turn, args=(turns, outcomes, begun + BEGIN_WITHIN_S), daemon=True)
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join(max(0.0, begun + END_WITHIN_S - time.monotonic()))
    return list(outcomes)


@dataclass(frozen=True, slots=True)
class _Turn:
    number: int
    url: str = field(repr=False)
    text: str


_NO_WORD = Undelivered("no answer in time; it may have been taken")


def _by_address(messages: Sequence[Message], outcomes: list[Outcome]) -> dict[str, list[_Turn]]:
    """The messages by address, for tenants may share one; those without one get their outcome here."""
    found: dict[str, list[_Turn]] = {}
    for number, message in enumerate(messages):
        try:
            url = message.hook.resolve(os.environ).reveal()
        except MissingSecretError as error:
            outcomes[number] = Undelivered(str(error))
            continue
        if _path(url) is None:
            outcomes[number] = Undelivered(f"{message.hook.place} holds no http or https URL")
            continue
        found.setdefault(url, []).append(_Turn(number, url, message.text))
    return found


def _post_in_turn(turns: Sequence[_Turn], outcomes: list[Outcome], begin_until: float) -> None:
    for position, turn in enumerate(turns):
        if position:
            time.sleep(PAUSE_S)
        if time.monotonic() > begin_until:
            return
        outcomes[turn.number] = _NO_WORD  # what holds if this thread is not waited for
        outcome = outcomes[turn.number] = _post(turn.url, turn.text)
        if outcome is not None:
            for left in turns[position + 1 :]:
                outcomes[left.number] = Undelivered(outcome.why, again=True)
            return


def ping(url: str, name: str) -> Outcome:
    """Request an address of a watcher, whose path is a secret; `name` is the variable that has it."""
    if _path(url) is None:
        return Undelivered(f"{name} holds no http or https URL")
    return _request("GET", url, None)


def _post(url: str, text: str) -> Outcome:
    return _request("POST", url, {"text": text})


def _request(method: str, url: str, body: Mapping[str, str] | None) -> Outcome:
    guard_logs()
    # Alive while the request is, this keeps the address out of the HTTP library's own log.
    redact = Redactor([Secret(url), Secret(_path(url) or "")])
    try:
        with PlainSession() as http:
            response = http.request(
                method,
                url,
                json=body,
                # With an auth of its own requests does not look into .netrc.
                auth=lambda request: request,
                timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
                allow_redirects=False,
                stream=True,
            )
            return _judged(response.status_code)
    except requests.ConnectTimeout:
        return Undelivered(f"no connection within {CONNECT_TIMEOUT_S:g} s", again=True)
    except requests.Timeout:
        return Undelivered(f"no answer within {READ_TIMEOUT_S:g} s; it may have been taken")
    except requests.exceptions.SSLError:
        return Undelivered("TLS failed")
    except (OSError, ValueError, HTTPException, urllib3.exceptions.HTTPError) as error:
        if _never_connected(error):
            return Undelivered("no connection", again=True)
        return Undelivered("the connection broke off; it may have been taken")
    finally:
        del redact


def _path(url: str) -> str | None:
    """What follows the host of an http(s) address, None where it is no such address."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return None
    rest = url.partition("://")[2].partition("/")[2]
    return f"/{rest}" if rest else ""


def _judged(status: int) -> Outcome:
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return Undelivered(f"it redirects (HTTP {status}), which is not followed; set the address it leads to")
    return Undelivered(f"it answered HTTP {status}", again=status in _LATER)


def _never_connected(error: Exception) -> bool:
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(reason, urllib3.exceptions.NewConnectionError | urllib3.exceptions.NameResolutionError)
