"""Text from outside, made safe for the place that shows it.

Names, messages and ids come from APIs, cost files and tenant files, and may hold anything. Each function here is for
one kind of output: a terminal, Markdown, a chat message, a spreadsheet. Dagster renders as Markdown the descriptions
of assets, jobs, checks and check evaluations, and metadata of type Markdown. It shows as plain text the descriptions
of schedules and sensors, skip reasons, tags, log lines, and metadata of types text, JSON and table.
"""

import re
from typing import Final

# C0 without tab and newline, DEL and C1.
_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# Characters that reorder text (bidirectional controls), and characters that cannot be seen (zero-width space, word
# joiner, tags, annotations). The zero-width joiner and non-joiner stay: emoji and several scripts need them.
_INVISIBLE: Final = re.compile(
    "[\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f\u180e\u200b\u2060-\u2065\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_LINE_ENDS: Final = re.compile("\r\n|[\u2028\u2029]")
_LINE_BREAKS_AND_TABS: Final = re.compile("[\t\n\v\f\r\x85\u2028\u2029]+")
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
REPLACEMENT: Final = "\ufffd"

_ASCII_PUNCTUATION: Final = re.compile(r"([!-/:-@\[-`{-~])")
_ESCAPED: Final = re.compile(r"\\([!-/:-@\[-`{-~])")
# GitHub-flavoured Markdown makes links of bare addresses even where every character of them is escaped.
_BARE_LINKS: Final = re.compile(r"(?<=://)|(?<=www)(?=\.)|(?<=@)", re.IGNORECASE)
# Where chat services see a mention, a link or an image.
_CHAT_MARKS: Final = re.compile(r"(?<=@)|(?<=://)|(?<=www)(?=\.)|(?<=\])(?=\()|(?<=!)(?=\[)", re.IGNORECASE)
# Takes no room, and has no meaning in any markup.
WORD_JOINER: Final = "\u2060"
# Words and numbers that no chat service takes for markup.
_PLAIN_WORDS: Final = re.compile(r"[^\W_]+(?:(?:, |[ _/'-])[^\W_]+)*\.?")

# A spreadsheet takes a cell that begins so for a formula; some do so with the full-width and small forms, too.
_FORMULA_STARTS: Final = tuple("=+-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b")


def printable(text: str) -> str:
    """Drop what a terminal would act on instead of showing; lines and tabs stay."""
    lines = _LINE_ENDS.sub("\n", _SURROGATES.sub(REPLACEMENT, text))
    return _INVISIBLE.sub("", _CONTROLS.sub("", lines))


def printable_line(text: str) -> str:
    """Make one printable line of a text: control characters and every run of whitespace become one blank."""
    return " ".join(printable(_CONTROLS.sub(" ", text)).split())


def escape_markdown(text: str) -> str:
    r"""Write a text so that Markdown shows it literally, on one line.

    Every ASCII punctuation character gets a backslash. Bare web and mail addresses are broken by an invisible word
    joiner, because Dagster's renderer turns them into links after it has resolved the backslashes.
    """
    return _ASCII_PUNCTUATION.sub(r"\\\1", _BARE_LINKS.sub(WORD_JOINER, printable_line(text)))


def unescape_markdown(text: str) -> str:
    """Return the text that `escape_markdown` was given, on one line."""
    return _ESCAPED.sub(r"\1", text).replace(WORD_JOINER, "")


def literal_for_chat(text: str) -> str:
    """Write a text so that Slack, Mattermost and Discord show it literally: no mention, link, image or formatting.

    Plain words stay as they are; anything else becomes a code span. Slack's own characters (`&`, `<`, `>`) are left to
    `escape_for_slack`, which is for the whole message.
    """
    line = printable_line(text)
    if not line or _PLAIN_WORDS.fullmatch(line):
        return line
    # None of the three has a way to write a backtick in a code span that the others understand.
    return f"`{_CHAT_MARKS.sub(WORD_JOINER, line.replace('`', chr(0x2019)))}`"


def escape_for_slack(message: str) -> str:
    """Escape the three characters by which Slack knows links, mentions and entities."""
    return message.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def spreadsheet_text(text: str) -> str:
    """Write a text as a cell that no spreadsheet takes for a formula, without control characters.

    A text that begins with `=`, `+`, `-`, `@`, a tab or a carriage return gets an apostrophe in front.
    """
    shown = printable(_LINE_BREAKS_AND_TABS.sub(" ", text))
    is_formula = text.startswith(("\t", "\r", "\n")) or shown.lstrip().startswith(_FORMULA_STARTS)
    return f"'{shown.lstrip()}" if is_formula else shown
