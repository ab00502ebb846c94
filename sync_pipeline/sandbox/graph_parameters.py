"""How the Graph API reads parameters and cuts lists into pages."""

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from sync_pipeline.sandbox import graph_errors as errors
from sync_pipeline.sandbox.entities import EFFECTIVE_STATUSES, Json
from sync_pipeline.sandbox.exchange import Call, Reply, json_reply
from sync_pipeline.sandbox.graph_errors import RefusedError

DEFAULT_PAGE = 25


def read_token(call: Call) -> str:
    """The access token: from the Bearer header, the query or the form."""
    scheme, _, value = call.headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else call.first("access_token")


def read_json(text: str, name: str) -> Any:
    """The value of a parameter written in JSON."""
    try:
        return json.loads(text)
    except ValueError:
        raise RefusedError(errors.bad_parameter(f"{name} must be valid JSON")) from None


def read_fields(call: Call) -> list[str]:
    """The names in `fields`, a comma list or a JSON list."""
    text = call.first("fields").strip()
    names = read_json(text, "fields") if text.startswith("[") else text.split(",")
    return list(dict.fromkeys(str(name).strip() for name in names if str(name).strip()))


def pick(item: Any, known: Mapping[str, Callable[[Any], Any]], names: Sequence[str], node: str) -> Json:
    """The fields of a node that were asked for, and its id."""
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        raise RefusedError(errors.bad_parameter(f"Tried accessing nonexisting field ({unknown}) on node type ({node})"))
    picked = {name: known[name](item) for name in names}
    return {**picked, "id": known["id"](item)}


def read_statuses(values: object) -> frozenset[str]:
    """A list of effective statuses, each of the twelve."""
    if not isinstance(values, list) or not {str(value) for value in values} <= set(EFFECTIVE_STATUSES):
        raise RefusedError(errors.bad_parameter(f"effective_status must be among {', '.join(EFFECTIVE_STATUSES)}"))
    return frozenset(values)


def read_filters(call: Call) -> tuple[frozenset[str] | None, frozenset[str] | None]:
    """The effective statuses and the ad ids that `filtering` asks for; None where it does not say."""
    statuses: frozenset[str] | None = None
    ids: frozenset[str] | None = None
    given = read_json(call.first("filtering"), "filtering") if call.first("filtering") else []
    for entry in given if isinstance(given, list) else [given]:
        if not isinstance(entry, dict) or not {"field", "operator", "value"} <= entry.keys():
            raise RefusedError(errors.bad_parameter("filtering must be a list of {field, operator, value}"))
        name, operator, value = entry["field"], entry["operator"], entry["value"]
        if operator not in {"IN", "EQUAL"} or (operator == "IN") != isinstance(value, list):
            raise RefusedError(errors.bad_parameter(f"filtering: operator {operator} is not valid for {name}"))
        values = value if isinstance(value, list) else [value]
        if name in {"ad.effective_status", "effective_status"}:
            statuses = read_statuses(values)
        elif name in {"ad.id", "id"}:
            ids = frozenset(str(one) for one in values)
        else:
            raise RefusedError(errors.bad_parameter(f"filtering field {name} is invalid"))
    return statuses, ids


def read_limit(call: Call) -> int:
    """The page size."""
    text = call.first("limit", str(DEFAULT_PAGE))
    if not text.isdigit() or int(text) < 1:
        raise RefusedError(errors.bad_parameter("limit must be a positive number"))
    return int(text)


# A cursor is the offset of the next row; an `e` marks the one empty page before it.
def _cursor(offset: int, mark: str = "r") -> str:
    return base64.urlsafe_b64encode(f"{mark}:{offset}".encode()).decode().rstrip("=")


def _read_cursor(text: str) -> tuple[int, bool]:
    if not text:
        return 0, False
    try:
        mark, _, offset = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().partition(":")
        if mark not in {"e", "r"}:
            raise RefusedError(errors.BAD_CURSOR)
        return int(offset), mark == "e"
    except (ValueError, binascii.Error):
        raise RefusedError(errors.BAD_CURSOR) from None


def page_of(call: Call, items: Sequence[Any], render: Callable[[Any], Json], *, empty_pages: bool) -> Reply:
    """One page. After the first of several, and then after every fifth, comes an empty page that still has a `next`."""
    limit = read_limit(call)
    offset, empty = _read_cursor(call.first("after"))
    if not items:
        return json_reply({"data": []})
    if empty:
        shown, following, more = [], _cursor(offset), True
    else:
        shown = list(items[offset : offset + limit])
        end = offset + len(shown)
        more = end < len(items)
        gap = empty_pages and more and end // limit % 5 == 1
        following = _cursor(end, "e" if gap else "r")
    paging: Json = {"cursors": {"before": _cursor(offset), "after": following}}
    if more:
        kept = [(name, value) for name, value in call.pairs if name not in {"after", "access_token", "limit"}]
        # The token is in the URL in clear, also for a caller who sent it in a header.
        query = urlencode([("access_token", read_token(call)), *kept, ("limit", limit), ("after", following)])
        paging["next"] = f"{call.origin}{call.path}?{query}"
    return json_reply({"data": [render(item) for item in shown], "paging": paging})
