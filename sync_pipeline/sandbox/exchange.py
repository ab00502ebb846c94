"""One request and its answer, as every part of the sandbox passes them on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import parse_qsl

JSON_TYPE = "application/json; charset=UTF-8"


@dataclass(frozen=True)
class Call:
    """A request as the handlers read it: `pairs` are its query's and then its form's parameters, decoded."""

    method: str
    path: str
    pairs: tuple[tuple[str, str], ...]
    headers: Mapping[str, str] = field(repr=False)
    origin: str

    def first(self, name: str, default: str = "") -> str:
        """The first value of a parameter."""
        return next((value for key, value in self.pairs if key == name), default)

    def every(self, name: str) -> list[str]:
        """All values of a repeated parameter."""
        return [value for key, value in self.pairs if key == name]

    def has(self, name: str) -> bool:
        """Whether the parameter is there at all."""
        return any(key == name for key, _ in self.pairs)


class Ending(Enum):
    """What happens to the connection once the answer is due."""

    KEPT = "kept"
    RESET = "reset"
    CUT = "cut"


@dataclass(frozen=True)
class Reply:
    """An answer. CUT sends half of the body under the full length and closes; RESET sends nothing at all."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = JSON_TYPE
    ending: Ending = Ending.KEPT


def json_reply(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """An answer in JSON."""
    return Reply(status, json.dumps(content, separators=(",", ":")).encode(), headers or {})


def read_pairs(query: str, form: str = "") -> tuple[tuple[str, str], ...]:
    """The parameters of a query and a form body, decoded, in their order."""
    return tuple(parse_qsl(query, keep_blank_values=True) + parse_qsl(form, keep_blank_values=True))
