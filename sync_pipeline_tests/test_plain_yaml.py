"""YAML is read alike with libyaml and without it; what tenant files make of it is in test_tenants.py."""

from typing import Any
from unittest import mock

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_pipeline import plain_yaml

PIECES = [
    *["a", "b: ", "- ", "\n", "\n  ", "\n    ", ": ", ",", "[", "]", "{", "}", "'", '"', "#", " # c", "*", "&x "],
    *["|", "|-\n", "> \n", "1", "0x1", "~", "no", "<<: ", "? ", "\\", "\\n", "%", "@", "`", "\t", "\r\n", "\r"],
    *["---\n", "...\n", "é", "\u2028", "\x85", "\ufeff", ":", "-", "a:b", "http://x.y/z?q=1", "0123", "2024-11-01"],
    *["!", "\x07"],
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def outcome(text: str, *, libyaml: bool = True) -> Any:
    with mock.patch.object(yaml, "__with_libyaml__", libyaml):
        try:
            return repr(plain_yaml.read(text))
        except yaml.YAMLError as error:
            return plain_yaml.problem_of(error)


@settings(max_examples=400)
@given(st.sampled_from(["", "tenant: x\nname: y\n"]), TEXTS)
def test_whatever_the_text_is_libyaml_changes_nothing(before: str, text: str) -> None:
    assert outcome(before + text) == outcome(before + text, libyaml=False)


@given(VALUES, st.booleans())
def test_what_was_written_is_read_the_same_by_both(value: object, flow: bool) -> None:
    text = yaml.safe_dump(value, allow_unicode=True, default_flow_style=flow)
    assert outcome(text) == outcome(text, libyaml=False)


@pytest.mark.parametrize("deep", ["[" * 50_000, "- " * 50_000, "{a: " * 50_000, "? " * 50_000, "a: [" * 50_000])
def test_a_text_that_is_nested_too_deeply_is_an_error_and_not_the_end_of_the_process(deep: str) -> None:
    with pytest.raises((RecursionError, yaml.YAMLError)):
        plain_yaml.read(deep)


@pytest.mark.parametrize("nested", ["[" * 299 + "]" * 299, "- " * 149 + "a"])
def test_a_text_that_is_just_not_too_deep_for_libyaml_is_read(nested: str) -> None:
    value = plain_yaml.read(nested)
    depth = 0
    while isinstance(value, list):
        value, depth = (value or [None])[0], depth + 1
    assert depth in {299, 149}
