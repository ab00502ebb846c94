"""The YAML of tenant files: no surprising types, no repeated keys, and a bounded size once aliases are expanded."""

import re
import unicodedata
from collections.abc import Hashable, Iterable
from itertools import chain
from typing import Any, Final

import yaml

MAX_NODES: Final = 20_000
MAX_LEVELS: Final = 30

NO_TAGS = "a value that begins with ! or % must stand in quotes"
_KEY_SAFE_TO_SHOW = re.compile(r"[A-Za-z_]{1,30}|[0-9]{1,20}")
# Characters that look like a space but are not one in YAML. Word processors and chat programs insert them.
_ODD_BLANKS = re.compile("[\u00a0\u1680\u2000-\u200b\u202f\u205f\u2060\u3000\ufeff]")
_COMMENT = re.compile(r"(?:^|\s)#")
# libyaml does not mark explicit tags, differs from PyYAML in what it takes for a blank, and ends the process where a
# text is nested too deeply: no deeper than lines are long, and brackets many.
_NOT_FOR_LIBYAML = re.compile(r"[!\t\ufeff|>]|[^\n]{300}")
_BRACKETS_FOR_LIBYAML = 300
# `[?,?]` has three nodes in two characters: a shorter text cannot exceed the limit before aliases are expanded.
_MAX_NODES_FROM_LENGTH = MAX_NODES // 2


class DocumentLimitError(yaml.MarkedYAMLError):
    """The document is too large, too deep or endless once its aliases are expanded."""

    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem=problem, problem_mark=mark)


class OddBlankError(yaml.MarkedYAMLError):
    """A character that only looks like a space is where YAML reads it as part of a key."""

    def __init__(self, blank: str, mark: Any) -> None:
        super().__init__(problem=f"holds {blank}; write an ordinary space", problem_mark=mark)


def read(text: str) -> Any:
    """Return the content of a document. Raises yaml.YAMLError, which `problem_of` describes."""
    if odd_blank(text) is None:
        return _read_plain(text)
    try:
        return _read_plain(text, check_keys=True)
    except (DocumentLimitError, OddBlankError):
        raise
    except yaml.YAMLError as error:
        # The parser notices the effect of such a character only on a later line.
        if (blank := _first_odd_blank(text, error)) is not None:
            raise blank from None
        raise


def odd_blank(text: str) -> str | None:
    """Name the first character that only looks like a space, such as "a no-break space (U+00A0)", else return None."""
    found = _ODD_BLANKS.search(text)
    return f"a {unicodedata.name(found[0]).lower()} (U+{ord(found[0]):04X})" if found else None


def _first_odd_blank(text: str, error: yaml.YAMLError) -> OddBlankError | None:
    """Return the first odd blank outside of a comment, up to the line that the parser complains about."""
    mark = getattr(error, "problem_mark", None)
    for number, line in enumerate(text.splitlines()[: mark.line + 1 if mark else None]):
        code = _COMMENT.split(line, maxsplit=1)[0]
        if found := _ODD_BLANKS.search(code):
            return OddBlankError(str(odd_blank(found[0])), yaml.Mark("", 0, number, found.start(), None, 0))
    return None


def _read_plain(text: str, *, check_keys: bool = False) -> Any:
    simple = not _NOT_FOR_LIBYAML.search(text) and text.count("[") + text.count("{") < _BRACKETS_FOR_LIBYAML
    if simple and yaml.__with_libyaml__:
        try:
            if len(text) > _MAX_NODES_FROM_LENGTH:
                _check_written_size(text)
            return _read(_QuickLoader(text), check_keys=check_keys)
        except (DocumentLimitError, OddBlankError):
            raise
        except yaml.YAMLError:
            # Read again by the other, so that an error has the same words wherever libyaml is missing.
            pass
    return _read(_Loader(text), check_keys=check_keys)


def _read(loader: Any, *, check_keys: bool) -> Any:
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _Expansion().check(node)
        if check_keys:
            _check_keys(node)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _check_keys(root: yaml.Node) -> None:
    """Raise OddBlankError where an unquoted key holds an odd blank."""
    pending, seen = [root], set[int]()
    while pending:
        node = pending.pop()
        if id(node) in seen or isinstance(node, yaml.ScalarNode):
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                unquoted = isinstance(key, yaml.ScalarNode) and key.style not in {"'", '"'}
                if unquoted and (blank := odd_blank(key.value)):
                    raise OddBlankError(blank, key.start_mark)
                pending += [value, key]
        else:
            pending += node.value


class _Count:
    """The nodes of a document as it is written, counted while it is parsed."""

    def __init__(self) -> None:
        self.nodes = 0

    def add(self, mark: Any) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise _too_many(mark)


def _check_written_size(text: str) -> None:
    """Raise DocumentLimitError for a document that has too many nodes, before libyaml builds any of them."""
    parser = _QuickLoader(text)
    count = _Count()
    while parser.check_event():
        event = parser.get_event()
        if isinstance(event, yaml.NodeEvent):
            count.add(event.start_mark)


class _Expansion:
    """Measures a graph of nodes as the tree that its aliases stand for, without building that tree."""

    def __init__(self) -> None:
        self._sizes: dict[int, tuple[int, int]] = {}
        self._open: set[int] = set()

    def check(self, root: yaml.Node) -> int:
        """Return the number of nodes of the tree. Raises DocumentLimitError."""
        return self._measure(root, 0)[0]

    def _measure(self, node: yaml.Node, level: int) -> tuple[int, int]:
        """The nodes and levels of a node that is below `level` collections; a scalar adds no level."""
        if isinstance(node, yaml.ScalarNode):
            return 1, 0
        key = id(node)
        size = self._sizes.get(key)
        if key in self._open:
            raise DocumentLimitError("contains itself, by an alias of its own anchor", node.start_mark)
        if level + (size[1] if size else 1) > MAX_LEVELS:
            raise _too_deep(node.start_mark)
        if size is None:
            self._open.add(key)
            size = self._sizes[key] = self._size_of(node, level + 1)
            self._open.remove(key)
        return size

    def _size_of(self, node: yaml.Node, level: int) -> tuple[int, int]:
        children: Iterable[yaml.Node] = (
            chain.from_iterable(node.value) if isinstance(node, yaml.MappingNode) else node.value
        )
        nodes, levels = 1, 0
        for child in children:
            child_nodes, child_levels = self._measure(child, level)
            nodes += child_nodes
            levels = max(levels, child_levels)
            if nodes > MAX_NODES:
                raise _too_many(node.start_mark)
        return nodes, levels + 1


def _too_many(mark: Any) -> DocumentLimitError:
    return DocumentLimitError(
        f"holds more than {MAX_NODES:,} keys and values, with aliases and merge keys expanded; shorten the file", mark
    )


def _too_deep(mark: Any) -> DocumentLimitError:
    return DocumentLimitError(f"is nested more than {MAX_LEVELS} levels deep, with aliases expanded", mark)


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
# Longer numbers stay text: those beyond 2**61 - 1 can share one hash, which makes a mapping of many of them slow.
_add_resolver("tag:yaml.org,2002:int", r"^-?(?:0|[1-9][0-9]{0,17})$", list("-0123456789"))
_add_resolver("tag:yaml.org,2002:merge", r"^<<$", ["<"])


class _Loader(_Plain, yaml.SafeLoader):
    """PyYAML's own, which refuses tags and stops at the limits of a document."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._count = _Count()
        self._level = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it out
        if getattr(event, "tag", None) not in {None, "!"}:
            raise yaml.composer.ComposerError(None, None, NO_TAGS, event.start_mark)
        self._count.add(event.start_mark)
        is_collection = isinstance(event, yaml.CollectionStartEvent)
        if is_collection and self._level >= MAX_LEVELS:
            raise _too_deep(event.start_mark)
        self._level += is_collection
        node = super().compose_node(parent, index)
        self._level -= is_collection
        return node


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
    if isinstance(error, DocumentLimitError | OddBlankError):
        return f"{where}{error.problem}"
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
