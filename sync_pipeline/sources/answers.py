"""An HTTP answer, and reading it without trusting it: whatever is wrong with it ends as a `SourceError`."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NoReturn

from sync_pipeline.rows.values import MAX_ID_LENGTH
from sync_pipeline.sources.errors import LimitExceededError, Place, ResponseFormatError
from sync_pipeline.sources.json_text import parse_json
from sync_pipeline.sources.limits import MAX_NAME_LENGTH, MAX_REDACTED_LENGTH

MESSAGE_LENGTH = 500
# Counters and codes have far fewer digits.
MAX_DIGITS = 18
_JSON_TYPES = ("json", "javascript", "text/plain")
# Linear: each part ends at the first character that the next one begins with.
_TITLE = re.compile(r"<title[^<>]*>([^<]*)</title", re.IGNORECASE)
_HTML_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html)\b", re.IGNORECASE)
_TITLE_LENGTH = 100
# More than the redactor looks at, in characters of up to four bytes, so that it makes the final cut.
_EXCERPT_BYTES = 4 * (MAX_REDACTED_LENGTH + 1)
_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,60}")
# Long enough for a phone number.
_LONG_NUMBER = re.compile(r"[0-9][0-9 ().-]{5,}[0-9]")


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

    @property
    def json(self) -> Any:
        """The body as JSON, parsed once. Raises ValueError with the reason.

        Numbers with a fraction become Decimal: money must not pass through binary floating point.
        """
        found, reason = self._outcome
        if reason is not None:
            raise ValueError(reason)
        return found

    @cached_property
    def _outcome(self) -> tuple[Any, str | None]:
        try:
            return parse_json(self.body), None
        except ValueError as error:
            return None, str(error)

    def outline(self, clean: Callable[[str], str]) -> str:
        """Size and type of the body: what an error may say of it, since it may hold the data of customers."""
        content_type = one_line(clean(self.headers.get("Content-Type") or ""), 60)
        return f"{len(self.body)} bytes of {content_type or 'no content type'}"

    def json_object(self) -> dict[str, Any] | None:
        """The body as a JSON object, None where it is anything else: for answers that are refusals anyway."""
        try:
            found = self.json
        except ValueError:
            return None
        return found if isinstance(found, dict) else None


def expect_object(place: Place, answer: Answer, clean: Callable[[str], str]) -> dict[str, Any]:
    """The JSON object of a successful answer. Raises `ResponseFormatError`, which describes what came instead."""

    def refuse(what: str) -> NoReturn:
        raise ResponseFormatError(place, what, http_status=answer.status, outline=answer.outline(clean))

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


def entries(place: Place, found: object, name: str) -> list[Any]:
    """Return the list of rows in a response, in which single entries may be something other than objects.

    Such an entry is an unreadable row, which must not cost the others. Raises `ResponseFormatError` where the response
    holds no list, or no entry of it is an object.
    """
    if isinstance(found, list) and any(isinstance(entry, dict) for entry in found):
        return found
    return objects(place, found, name)


def text(place: Place, found: object, name: str) -> str:
    """A short text, or an integer as one (ids come as either), that any database and terminal can hold."""
    return _short_text(place, found, name, "MAX_NAME_LENGTH", MAX_NAME_LENGTH)


def identifier(place: Place, found: object, name: str) -> str:
    """An id: as `text`, but shorter, not blank, and printable, because logs list ids."""
    if not (value := _short_text(place, found, name, "MAX_ID_LENGTH", MAX_ID_LENGTH).strip()):
        raise ResponseFormatError(place, f"the answer's {name} is blank")
    if not value.isprintable():
        raise ResponseFormatError(place, f"the answer's {name} holds characters that no id has")
    return value


def _short_text(place: Place, found: object, name: str, limit: str, maximum: int) -> str:
    if isinstance(found, int) and not isinstance(found, bool):
        found = str(found)
    if not isinstance(found, str):
        raise ResponseFormatError(place, f"the answer's {name} is not a text")
    if len(found) > maximum:
        what = f"the answer's {name} is longer than {maximum} characters"
        raise LimitExceededError(place, what, limit=limit, maximum=maximum)
    return storable(found)


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


def error_page(answer: Answer, clean: Callable[[str], str]) -> str | None:
    """The title of an HTML error page, redacted, in one line; None for any other response.

    Nothing else of a body is ever shown: responses of data endpoints hold names and phone numbers of customers, also
    those that are cut off or labelled as something else.
    """
    if answer.ok or not _HTML_PAGE.match(answer.body[:_EXCERPT_BYTES]):
        return None
    title = _TITLE.search(answer.body[:_EXCERPT_BYTES].decode("utf-8", "replace"))
    shown = one_line(_LONG_NUMBER.sub("…", clean(title[1])), _TITLE_LENGTH) if title else ""
    return shown or "an HTML page without a title"


def api_code(found: object, clean: Callable[[str], str]) -> int | str | None:
    """An API's own error code: a number, or a text of letters and digits; None for anything else."""
    if isinstance(found, str) and _CODE.fullmatch(found):
        number = whole_number(found)
        return clean(found) if number is None else number
    return whole_number(found)


def one_line(found: str, length: int = MESSAGE_LENGTH) -> str:
    """A text as one printable line of at most `length` characters. Redact before: a cut may hide half a secret."""
    # The first cut only keeps megabytes out of the work.
    shown = "".join(c if c.isprintable() else " " for c in storable(found[: length * 4]))
    shown = " ".join(shown.split())
    return shown if len(shown) <= length else shown[: length - 1] + "…"


def storable(found: str) -> str:
    """A text without NUL characters and with lone surrogates replaced."""
    return found.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
