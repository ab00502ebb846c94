"""YAML as a tenant file may have it: nothing is read as what it does not look like, and no key may come twice."""

import re
from collections.abc import Hashable
from typing import Any

import yaml

NO_TAGS = "a value that begins with ! or % must stand in quotes"
_KEY_SAFE_TO_SHOW = re.compile(r"[A-Za-z_]{1,30}|[0-9]{1,20}")
# libyaml does not mark explicit tags, differs from PyYAML in what it takes for a blank, and ends the process where a
# text is nested too deeply: no deeper than lines are long, and brackets many.
_NOT_FOR_LIBYAML = re.compile(r"[!\t\ufeff|>]|[^\n]{300}")
_BRACKETS_FOR_LIBYAML = 300


def read(text: str) -> Any:
    """Return what a document says. Raises yaml.YAMLError, for `problem_of`, or RecursionError where it is too deep."""
    simple = not _NOT_FOR_LIBYAML.search(text) and text.count("[") + text.count("{") < _BRACKETS_FOR_LIBYAML
    if simple and yaml.__with_libyaml__:
        try:
            return yaml.load(text, Loader=_QuickLoader)  # noqa: S506 (a SafeLoader)
        except yaml.YAMLError:
            # Read again by the other, so that an error has the same words wherever libyaml is missing.
            pass
    return yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)


class _Plain(yaml.constructor.SafeConstructor):
    """In which only true/false, null and plain whole numbers are not text, and no key may come twice.

    PyYAML reads `no` as false, `2:30` as 150, `0123` as 83 and `2024-11-01` as a date, and lets the last of two
    equal keys win: each a silent misreading of a tenant file.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (so in PyYAML)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"{shown_key(key.value)} is given twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _add_resolver(tag: str, pattern: str, first: list[str]) -> None:
    for character in first:
        _Plain.yaml_implicit_resolvers.setdefault(character, []).append((tag, re.compile(pattern)))


_add_resolver("tag:yaml.org,2002:null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""])
_add_resolver("tag:yaml.org,2002:bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF"))
_add_resolver("tag:yaml.org,2002:int", r"^-?(?:0|[1-9][0-9]{0,29})$", list("-0123456789"))
_add_resolver("tag:yaml.org,2002:merge", r"^<<$", ["<"])


class _Loader(_Plain, yaml.SafeLoader):
    """PyYAML's own, which refuses tags."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it out
        if getattr(event, "tag", None) not in {None, "!"}:
            raise yaml.composer.ComposerError(None, None, NO_TAGS, event.start_mark)
        return super().compose_node(parent, index)


if yaml.__with_libyaml__:

    class _QuickLoader(_Plain, yaml.CSafeLoader):
        """libyaml's, five times as fast; for texts that both read alike."""


def shown_key(key: str) -> str:
    """A key as a message may show it, as whatever does not look like one may be a secret in the wrong place."""
    return key if _KEY_SAFE_TO_SHOW.fullmatch(key) else "a key"


def problem_of(error: yaml.YAMLError) -> str:
    """Say what is wrong, and where.

    Only PyYAML's own words and the position: its full text quotes the lines around, which may hold a secret, and so do
    its words on aliases, tags and directives.
    """
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    problem = getattr(error, "problem", None) or "holds a character that YAML does not allow"
    context = getattr(error, "context", None) or ""
    if "alias" in problem or "alias" in context:
        problem = 'a value that begins with * must stand in quotes, such as "*/30 * * * *"'
    elif "anchor" in problem or "anchor" in context:
        problem = "a value that begins with & must stand in quotes"
    elif "tag" in problem or "directive" in problem:
        problem = NO_TAGS
    elif "another document" in problem:
        problem = "one file holds one tenant; remove the second ---"
    elif "'\\t'" in problem:
        problem = "indent with blanks, not with tabs"
    return f"{where}{problem}" if "given twice" in problem else f"{where}not valid YAML: {problem}"
