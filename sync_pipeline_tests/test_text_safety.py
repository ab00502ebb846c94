"""Text from outside is shown as text by terminals, Markdown, chat services and spreadsheets."""

import string
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.text_safety import (
    WORD_JOINER,
    escape_for_slack,
    escape_markdown,
    literal_for_chat,
    printable,
    printable_line,
    spreadsheet_text,
)

CONTROLS = [chr(code) for code in (*range(0x20), 0x7F, *range(0x80, 0xA0)) if chr(code) not in "\n\t"]
REORDERING = list("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
INVISIBLE = list("\u200b\u2060\ufeff\u180e\U000e0041")


@pytest.mark.parametrize("character", [*CONTROLS, *REORDERING, *INVISIBLE], ids=ascii)
def test_a_character_that_acts_is_dropped(character: str) -> None:
    assert printable(f"a{character}b") == "ab"
    assert character not in printable_line(f"a{character}b")


def test_printable_keeps_lines_tabs_and_every_script() -> None:
    text = "Nguyễn\tนักการตลาด\n👩\u200d👧 क्\u200dष €"
    assert printable(text) == text
    assert printable("a\r\nb\u2028c") == "a\nb\nc"
    assert printable("\ud83d") == "\ufffd"


def test_printable_line_is_one_line() -> None:
    assert printable_line(" a\x1b[2J\r\nb\t\tc\u2029d ") == "a [2J b c d"


@given(st.text())
def test_printable_text_holds_no_control_and_stays(text: str) -> None:
    shown = printable(text)
    assert not [letter for letter in shown if unicodedata.category(letter) == "Cc" and letter not in "\n\t"]
    assert printable(shown) == shown
    assert "\n" not in printable_line(text)
    shown.encode()


def test_all_punctuation_is_escaped_in_markdown() -> None:
    escaped = escape_markdown(f"a{string.punctuation}")
    assert escaped.replace(WORD_JOINER, "") == "a" + "".join(f"\\{letter}" for letter in string.punctuation)
    assert escape_markdown("![](/auth/logout)\n# x") == r"\!\[\]\(\/auth\/logout\) \# x"


@pytest.mark.parametrize(
    "text", ["http://evil.test/x", "HTTPS://evil.test", "www.evil.test", "_www.evil.test", "mail@evil.test"]
)
def test_a_bare_address_is_no_link_in_markdown(text: str) -> None:
    shown = escape_markdown(text).replace("\\", "")
    assert shown != text
    assert shown.replace(WORD_JOINER, "") == text
    # What Dagster's renderer looks for once backslashes are resolved.
    for start in ("http://e", "https://e", "www.", "@e"):
        assert start not in shown.lower()


@pytest.mark.parametrize(
    "text", ["Lumina Skin", "daily_sync", "2026-10-05, pos, shop 31", "The run's process is gone.", "Nguyễn"]
)
def test_plain_words_stay_as_they_are_in_chat(text: str) -> None:
    assert literal_for_chat(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "@everyone",
        "hello @here",
        "![](http://evil.test/x.png)",
        "[log in](https://evil.test)",
        "https://evil.test",
        "evil.test",
        "_a_ *b* ~c~",
        "# title",
        "> quoted",
        "end`@everyone`",
        "a\n@channel",
    ],
)
def test_markup_is_a_code_span_in_chat(text: str) -> None:
    shown = literal_for_chat(text)
    assert shown[0] == shown[-1] == "`"
    assert "`" not in shown[1:-1]
    assert "\n" not in shown
    for mark in ("@everyone", "@here", "@channel", "](", "![", "https://evil", "http://evil"):
        assert mark not in shown


def test_slack_sees_no_mention() -> None:
    assert escape_for_slack("<!channel> & <@U1>") == "&lt;!channel&gt; &amp; &lt;@U1&gt;"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\x01=", " =", "\uff1d", "\ufe62", "\u200b="])
def test_a_formula_becomes_text_in_a_spreadsheet(start: str) -> None:
    shown = spreadsheet_text(f"{start}HYPERLINK(1)")
    assert shown.startswith("'")
    assert not set(shown) & {*CONTROLS, "\n", "\t"}


def test_other_cells_stay_exact_without_controls() -> None:
    assert spreadsheet_text("Ali  Baba, 'the 1st' = x") == "Ali  Baba, 'the 1st' = x"
    assert spreadsheet_text("a\x1b[31mb\x00\x7fc\u202ed") == "a[31mbcd"
