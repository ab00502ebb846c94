"""Faults to inject: which requests, how many of them, and what they meet instead of an answer."""

import asyncio
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from datetime import date
from typing import Any

from sync_pipeline.sandbox import graph_errors
from sync_pipeline.sandbox.exchange import Call, Ending, Reply, json_reply
from sync_pipeline.sandbox.pancake import BAD_KEY, RATE_LIMITED
from sync_pipeline.sandbox.request_log import kind_of

LONGEST_HOLD_S = 300.0


class Barrier:
    """Holds requests until `release` is called from any thread, but none longer than `longest_hold_s`."""

    def __init__(self, longest_hold_s: float = LONGEST_HOLD_S) -> None:
        self._longest_hold_s = longest_hold_s
        self._lock = threading.Lock()
        self._released = False
        self._held: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def released(self) -> bool:
        """Wait for the release. Returns False if `longest_hold_s` pass without it."""
        event = asyncio.Event()
        with self._lock:
            if self._released:
                return True
            self._held.append((asyncio.get_running_loop(), event))
        try:
            async with asyncio.timeout(self._longest_hold_s):
                await event.wait()
        except TimeoutError:
            return False
        return True

    def release(self) -> None:
        """Release the held requests, and hold no others."""
        with self._lock:
            self._released = True
            held, self._held = self._held, []
        for loop, event in held:
            with suppress(RuntimeError):  # the loop is closed: its server has stopped
                loop.call_soon_threadsafe(event.set)


@dataclass(frozen=True)
class Effect:
    """What a request meets: `reply` after `delay_seconds`, called `content_type`, and how the connection then ends.

    Without a reply or a content type it is the real answer or its real type. With a `barrier` the request is held
    there first. `change` is applied to the reply.
    """

    reply: Callable[[], Reply] | None = None
    change: Callable[[Reply], Reply] | None = None
    delay_seconds: float = 0.0
    ending: Ending = Ending.KEPT
    content_type: str | None = None
    barrier: Barrier | None = None


@dataclass
class Fault:
    """An effect and the requests that meet it: of those that match every condition, `times` after the first `skip`.

    `kind` is a kind of `request_log.kind_of`, such as `ads`, `account_insights` or `report_rows`. `path` and `query`
    are regular expressions searched in the path and in the decoded `name=value&...` of query and form; `covers_day`
    matches insights whose time range, and order lists whose window, holds that day (the window in the timezone of the
    shop's tenant).
    `times` None means always. `hits` counts the requests that met it.
    """

    effect: Effect
    path: str = ""
    query: str = ""
    method: str = ""
    kind: str = ""
    covers_day: date | None = None
    skip: int = 0
    times: int | None = 1
    hits: int = field(default=0, init=False)
    _passed: int = field(default=0, init=False, repr=False)

    def meets(self, call: Call, covers: Callable[[Call, date], bool]) -> bool:
        """Whether this request meets the fault; counts it."""
        query = "&".join(f"{name}={value}" for name, value in call.pairs)
        matches = (
            self.method.upper() in {"", call.method}
            and self.kind in {"", kind_of(call)}
            and re.search(self.path, call.path)
            and re.search(self.query, query)
            and (self.covers_day is None or covers(call, self.covers_day))
        )
        if not matches or (self.times is not None and self.hits >= self.times):
            return False
        if self._passed < self.skip:
            self._passed += 1
            return False
        self.hits += 1
        return True

    def release(self) -> None:
        """Release the requests that the effect holds, and hold no others."""
        if self.effect.barrier:
            self.effect.barrier.release()


class Faults:
    """The faults in force, oldest first; a request meets the first that matches."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Puts a fault in force and returns it, for its `hits`."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Remove all faults and release the requests they hold."""
        with self._lock:
            faults, self._faults = self._faults, []
        for fault in faults:
            fault.release()

    def all(self) -> list[Fault]:
        """The faults in force."""
        with self._lock:
            return list(self._faults)

    def met_by(self, call: Call, covers: Callable[[Call, date], bool]) -> Effect | None:
        """The effect the request meets, if any."""
        with self._lock:
            return next((fault.effect for fault in self._faults if fault.meets(call, covers)), None)


def graph_error(name: str, *, headers: Mapping[str, str] | None = None) -> Effect:
    """One of the Graph API's errors by its name in `graph_errors.NAMED`."""
    return Effect(replace(graph_errors.NAMED[name], headers=headers or {}).reply)


def graph_error_code(
    code: int,
    subcode: int | None = None,
    *,
    status: int = 400,
    message: str = "Injected error",
    is_transient: bool | None = None,
    headers: Mapping[str, str] | None = None,
) -> Effect:
    """Any error in the Graph API's body. With `status=200` the error hides behind a success."""
    error = graph_errors.GraphError(
        message, code, status, subcode, is_transient=is_transient, headers=dict(headers or {})
    )
    return Effect(error.reply)


def http_error(status: int, body: str = "", *, content_type: str = "text/plain", **headers: str) -> Effect:
    """Any status with any body; header names are given with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Effect(lambda: Reply(status, body.encode(), named, content_type))


def rate_limited(retry_after: str | None = "1") -> Effect:
    """HTTP 429, with a Retry-After header (seconds or an HTTP date) or none."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return Effect(lambda: Reply(429, b"Too Many Requests", headers, "text/plain"))


def pancake_bad_key() -> Effect:
    """Pancake's answer to a key it does not know."""
    return Effect(lambda: json_reply(BAD_KEY, 403))


def pancake_failure(
    message: str = "Something went wrong", *, status: int = 200, error_code: int | None = None
) -> Effect:
    """A failure in Pancake's body, with HTTP 200 unless given, such as an expired subscription."""
    code = {} if error_code is None else {"error_code": error_code}
    return Effect(lambda: json_reply({"success": False, "message": message, **code}, status))


def pancake_rate_limited(status: int = 429) -> Effect:
    """Pancake's rate limit, which its body states under any status."""
    return Effect(lambda: json_reply(RATE_LIMITED, status))


def slow(seconds: float) -> Effect:
    """The real answer, late."""
    return Effect(delay_seconds=seconds)


def held(longest_hold_s: float = LONGEST_HOLD_S) -> Effect:
    """The real answer once `Fault.release` is called or the faults are cleared; HTTP 504 if neither happens in time."""
    return Effect(barrier=Barrier(longest_hold_s))


def reset() -> Effect:
    """The connection is reset before any answer."""
    return Effect(ending=Ending.RESET)


def truncated() -> Effect:
    """The real answer's headers and half of its body, then the connection closes."""
    return Effect(ending=Ending.CUT)


def empty_body(status: int = 200) -> Effect:
    """An answer without a body that claims to be JSON."""
    return Effect(lambda: Reply(status))


def html(status: int = 200) -> Effect:
    """A page for people, as a proxy or a gateway would show."""
    return Effect(lambda: Reply(status, b"<html><body><h1>Sorry</h1></body></html>", {}, "text/html"))


def wrong_content_type(content_type: str = "text/html") -> Effect:
    """The real answer under another content type."""
    return Effect(content_type=content_type)


def no_json(status: int = 200) -> Effect:
    """Text that is no JSON but says it is."""
    return Effect(lambda: Reply(status, b"{temporarily out of service"))


def redirect(location: str, status: int = 302) -> Effect:
    """A redirect."""
    return Effect(lambda: Reply(status, b"", {"Location": location}))


def json_body(content: Any = None, status: int = 200) -> Effect:
    """Any JSON; `null` unless given."""
    return Effect(lambda: json_reply(content, status))


def bad_rows(
    changes: Mapping[str, Any] | None = None,
    *,
    absent: Sequence[str] = (),
    ids: Sequence[str | int] | None = None,
    most: int | None = None,
    no_object: bool = False,
) -> Effect:
    """The real answer with bad rows: some fields of them are changed, or absent, or the row is null altogether.

    Changed are the rows whose `id` or `ad_id` is among `ids`, or all of them; at most `most` of each page.
    """
    wanted = None if ids is None else {str(one) for one in ids}

    def change(reply: Reply) -> Reply:
        content = json.loads(reply.body)
        left = most
        for name in ("data", "orders"):
            rows = content.get(name)
            for place, row in enumerate(rows if isinstance(rows, list) else ()):
                chosen = wanted is None or not wanted.isdisjoint({str(row.get("id")), str(row.get("ad_id"))})
                if not chosen or left == 0:
                    continue
                left = None if left is None else left - 1
                kept = {field: value for field, value in row.items() if field not in absent}
                rows[place] = None if no_object else {**kept, **(changes or {})}
        return replace(reply, body=json.dumps(content, separators=(",", ":")).encode())

    return Effect(change=change)


EFFECTS: dict[str, Callable[..., Effect]] = {
    made.__name__: made
    for made in (
        graph_error,
        graph_error_code,
        http_error,
        rate_limited,
        pancake_bad_key,
        pancake_failure,
        pancake_rate_limited,
        slow,
        held,
        reset,
        truncated,
        empty_body,
        html,
        wrong_content_type,
        no_json,
        redirect,
        json_body,
        bad_rows,
    )
}


def read_fault(text: str) -> Fault:
    """A fault from JSON such as `{"effect": "graph_error", "with": {"name": "expired_token"}, "path": "insights"}`.

    `effect` is a name in `EFFECTS`, `with` its arguments, the rest are fields of `Fault`. Raises ValueError, which says
    what is wrong.
    """
    given = json.loads(text)
    known = {"effect", "with", *(f.name for f in fields(Fault) if f.init)}
    if not isinstance(given, dict) or not {"effect"} <= given.keys() <= known:
        raise ValueError(f"a fault needs an effect, and takes only {', '.join(sorted(known))}")
    if given["effect"] not in EFFECTS:
        raise ValueError(f"effect must be one of {', '.join(EFFECTS)}")
    try:
        effect = EFFECTS[given.pop("effect")](**given.pop("with", {}))
        day = given.pop("covers_day", None)
        return Fault(effect, covers_day=date.fromisoformat(day) if day else None, **given)
    except (TypeError, KeyError) as error:
        raise ValueError(f"fault not understood: {error}") from error
