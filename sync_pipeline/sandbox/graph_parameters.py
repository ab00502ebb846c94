"""How the Graph API reads parameters and cuts lists into pages."""

import base64
import binascii
import json
import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode

from sync_pipeline.sandbox import graph_errors as errors
from sync_pipeline.sandbox.entities import Json
from sync_pipeline.sandbox.exchange import Call, Reply, json_reply
from sync_pipeline.sandbox.graph_errors import RefusedError

DEFAULT_PAGE = 25
_TOP_LEVEL_COMMA = re.compile(r",(?![^{]*\})")


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


def read_list(call: Call, name: str) -> list[str]:
    """The values of a parameter that takes a comma list or a JSON list, each once.

    Commas within braces separate nothing, so that `creative{id,name},status` are two.
    """
    text = call.first(name).strip()
    values = read_json(text, name) if text.startswith("[") else _TOP_LEVEL_COMMA.split(text)
    return list(dict.fromkeys(str(value).strip() for value in values if str(value).strip()))


def read_fields(call: Call) -> list[str]:
    """The names in `fields`."""
    return read_list(call, "fields")


def read_names(call: Call, name: str, allowed: frozenset[str]) -> tuple[str, ...]:
    """The names in a parameter, each of those allowed."""
    names = read_list(call, name)
    unknown = next((one for one in names if one not in allowed), None)
    if unknown is not None:
        raise RefusedError(
            errors.bad_parameter(f"{name}[0] must be one of the following values: {', '.join(sorted(allowed))}")
        )
    return tuple(names)


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
