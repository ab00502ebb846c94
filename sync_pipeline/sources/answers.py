"""An HTTP answer, and reading it without trusting it: whatever is wrong with it ends as a `SourceError`."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any, NoReturn

from sync_pipeline.sources.errors import Place, ResponseFormatError

MESSAGE_LENGTH = 500
# Counters and codes fit in this many digits by far; int() refuses to read 4300 and more.
MAX_DIGITS = 18
_JSON_TYPES = ("json", "javascript", "text/plain")
_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Answer:
    """What came back for one request. Header names are looked up in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether the HTTP status is a success; what the body says is another matter."""
        return 200 <= self.status < 300

    @cached_property
    def json(self) -> Any:
        """The body as JSON, parsed once. Raises ValueError with the reason.

        Numbers with a fraction become Decimal: money must not pass through binary floating point.
        """
        try:
            return json.loads(self.body.decode("utf-8-sig"), parse_float=Decimal, parse_constant=_no_constant)
        except UnicodeDecodeError:
            reason = "it is not UTF-8 text"
        except RecursionError:
            reason = "it is nested too deep"
        except ArithmeticError:
            reason = "it holds a number out of range"
        except json.JSONDecodeError as error:
            reason = f"{error.msg} at character {error.pos}"
        except ValueError:
            # int() refuses numbers of 4300 digits and more; `parse_constant` refuses NaN.
            reason = "it holds a number that is none"
        raise ValueError(reason)

    def json_object(self) -> dict[str, Any] | None:
        """The body as a JSON object, None where it is anything else: for answers that are refusals anyway."""
        try:
            found = self.json
        except ValueError:
            return None
        return found if isinstance(found, dict) else None


def expect_object(place: Place, answer: Answer, clean: Callable[[str], str]) -> dict[str, Any]:
    """The JSON object of a successful answer. Raises `ResponseFormatError` saying what came in its place."""

    def refuse(what: str) -> NoReturn:
        raise ResponseFormatError(
            place, what, http_status=answer.status, api_message=excerpt(answer.body, clean) or None
        )

    if not answer.body.strip():
        refuse("the answer is empty")
    content_type = answer.headers.get("Content-Type") or ""
    if content_type and not any(kind in content_type.lower() for kind in _JSON_TYPES):
        refuse(f"the answer is {one_line(clean(content_type), 60)} where JSON is expected")
    reason, found = None, None
    try:
        found = answer.json
    except ValueError as error:
        reason = str(error)
    if reason is not None:
        refuse(f"the answer is not JSON: {reason}")
    if not isinstance(found, dict):
        refuse("the answer is not a JSON object")
    return found


def objects(place: Place, found: object, name: str) -> list[dict[str, Any]]:
    """A list of JSON objects as such. Raises `ResponseFormatError` where it is anything else."""
    if not isinstance(found, list):
        raise ResponseFormatError(place, f"the answer holds no list of {name}")
    for entry in found:
        if not isinstance(entry, dict):
            raise ResponseFormatError(place, f"the answer's list of {name} holds something else than objects")
    return found


def text(place: Place, found: object, name: str) -> str:
    """A text, or an integer as one (ids come as either), that any database and terminal can hold."""
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    if not isinstance(found, str):
        raise ResponseFormatError(place, f"the answer's {name} is not a text")
    return storable(found)


def identifier(place: Place, found: object, name: str) -> str:
    """An id: as `text`, but not blank."""
    if not (value := text(place, found, name).strip()):
        raise ResponseFormatError(place, f"the answer's {name} is blank")
    return value


def optional_text(place: Place, found: object, name: str) -> str | None:
    """As `text`, with null or absent as None."""
    return None if found is None else text(place, found, name)


def optional_count(place: Place, found: object, name: str) -> int | None:
    """A number from 0, also where it comes as a text; null or absent as None."""
    if found is None:
        return None
    if (count := whole_number(found)) is None or count < 0:
        raise ResponseFormatError(place, f"the answer's {name} is not a count")
    return count


def whole_number(found: object) -> int | None:
    """An integer, or a text of digits as one; None for anything else, and for more than 18 digits."""
    if isinstance(found, str):
        digits = found.strip()
        return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= MAX_DIGITS else None
    if isinstance(found, int) and not isinstance(found, bool) and abs(found) < 10**MAX_DIGITS:
        return found
    return None


def excerpt(body: bytes, clean: Callable[[str], str]) -> str:
    """What a body that is no JSON says, redacted, in one line: its text, or of an HTML page the title."""
    found = body.decode("utf-8", "replace").strip()
    if found.startswith("<"):
        title = _TITLE.search(found)
        return one_line(clean(title[1]) if title and title[1].strip() else "an HTML or XML page")
    return one_line(clean(found))


def one_line(found: str, length: int = MESSAGE_LENGTH) -> str:
    """A text as one printable line of at most `length` characters. Redact before: a cut may hide half a secret."""
    # The first cut only keeps megabytes out of the work.
    shown = "".join(c if c.isprintable() else " " for c in storable(found[: length * 4]))
    shown = " ".join(shown.split())
    return shown if len(shown) <= length else shown[: length - 1] + "…"


def storable(found: str) -> str:
    """A text without NUL characters and with lone surrogates replaced."""
    return found.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)
