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


@pytest.mark.parametrize("libyaml", [True, False])
@pytest.mark.parametrize("deep", ["[" * 50_000, "- " * 50_000, "{a: " * 50_000, "? " * 50_000, "a: [" * 50_000])
def test_a_text_nested_too_deeply_is_an_error(deep: str, libyaml: bool) -> None:
    assert "is nested more than 30 levels deep" in outcome(deep, libyaml=libyaml)


@pytest.mark.parametrize("libyaml", [True, False])
@pytest.mark.parametrize("nested", ["[" * 30 + "]" * 30, "- " * 30 + "a"])
def test_a_text_of_30_levels_is_read(nested: str, libyaml: bool) -> None:
    with mock.patch.object(yaml, "__with_libyaml__", libyaml):
        value = plain_yaml.read(nested)
    depth = 0
    while isinstance(value, list):
        value, depth = (value or [None])[0], depth + 1
    assert depth == 30
    assert "is nested more than 30 levels deep" in outcome(f"a: {nested}" if "[" in nested else f"- {nested}")


def laughs(line: str, times: int) -> str:
    """A chain of anchors, each of which repeats the one before."""
    return "\n".join(["a0: &a0 {k: v}", *(line.format(n=n, before=n - 1) for n in range(1, times))])


BOMBS = {
    "billion laughs": laughs("a{n}: &a{n} [" + ", ".join(["*a{before}"] * 9) + "]", 12),
    "merge bomb": laughs("a{n}: &a{n} {{<<: [*a{before}, *a{before}, *a{before}, *a{before}]}}", 12),
    "merge of one": laughs("a{n}: &a{n} {{<<: *a{before}, x: *a{before}}}", 25),
    "many aliases": "a: &a x\nb: [" + ",\n".join(["*a"] * 200_000) + "]",
    "many keys": "".join(f"k{n}: v\n" for n in range(100_000)),
    "many keys in few characters": "[" + "?," * 200_000 + "]",
}


@pytest.mark.parametrize("libyaml", [True, False])
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_an_error_with_its_line(name: str, libyaml: bool) -> None:
    with mock.patch.object(plain_yaml._Plain, "construct_document", side_effect=AssertionError("was constructed")):
        said = outcome(BOMBS[name], libyaml=libyaml)
    assert said.startswith("line ")
    assert "holds more than 20,000 keys and values" in said


@pytest.mark.parametrize("libyaml", [True, False])
def test_a_chain_of_anchors_too_deep_is_an_error(libyaml: bool) -> None:
    said = outcome(laughs("a{n}: &a{n} [*a{before}]", 2_000), libyaml=libyaml)
    assert said == "line 29, column 6: is nested more than 30 levels deep, with aliases expanded"


@pytest.mark.parametrize("text", ["&a [*a]", "a: &a {<<: *a}", "a: &a {b: [*a]}", "? &a [*a]\n: 1"])
def test_a_text_that_contains_itself_is_an_error(text: str) -> None:
    assert "contains itself" in outcome(text)
    assert outcome(text) == outcome(text, libyaml=False)


def test_aliases_and_merge_keys_are_read() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: [*a, *a]\nd: {<<: [*a, {z: 4}]}\n"
    x = {"x": 1, "y": 2}
    assert plain_yaml.read(text) == {"a": x, "b": {"x": 1, "y": 3}, "c": [x, x], "d": {**x, "z": 4}}


def test_keys_of_equal_hash_are_read_as_text() -> None:
    collisions = [n * (2**61 - 1) for n in range(1, 5)]
    assert set(plain_yaml.read("".join(f"{n}: v\n" for n in collisions))) == set(map(str, collisions))


@st.composite
def graphs(draw: st.DrawFn) -> str:
    """YAML of a few anchored collections that hold scalars and aliases of earlier ones."""
    lines = []
    for n in range(draw(st.integers(1, 6))):
        values = st.sampled_from(["x", "[x, y]", "{k: v}", *(f"*a{before}" for before in range(n))])
        items = draw(st.lists(values, max_size=4))
        if draw(st.booleans()):
            body = "[" + ", ".join(items) + "]"
        else:
            body = "{" + ", ".join(f"k{i}: {item}" for i, item in enumerate(items)) + "}"
        lines.append(f"a{n}: &a{n} {body}\n")
    return "".join(lines)


def naive_count(value: object) -> int:
    if isinstance(value, dict):
        return 1 + sum(1 + naive_count(entry) for entry in value.values())
    return 1 + sum(map(naive_count, value)) if isinstance(value, list) else 1


@given(graphs())
def test_the_count_equals_that_of_the_expanded_tree(text: str) -> None:
    node = yaml.compose(text, Loader=plain_yaml._Loader)
    assert node is not None
    assert plain_yaml._Expansion().check(node) == naive_count(plain_yaml.read(text))
