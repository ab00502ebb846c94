"""Small changes of source code, each of which some test should notice.

A change is found in the syntax tree and made in the text, so that the rest of the file stays as it is. Left out is what
no test looks at: annotations, docstrings, decorators, assertions that narrow types, sentences, names of subqueries, and
numbers of 1000 or more, which are measured sizes. Left out is also what would fail at once, such as functions that
return nothing and constructors that set nothing, which would only make the score look better.
"""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Final

_COMPARISONS: Final[dict[type[ast.cmpop], tuple[str, str]]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.In: ("in", "not in"),
    ast.NotIn: (r"not\s+in", "in"),
    ast.Is: ("is", "is not"),
    ast.IsNot: (r"is\s+not", "is"),
}
_ARITHMETIC: Final[dict[type[ast.operator], tuple[str, str]]] = {
    ast.Add: (r"\+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: (r"\*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.BitOr: (r"\|", "&"),
    ast.BitAnd: ("&", "|"),
}
# Methods and functions with a near opposite.
_SWAPPED: Final = {
    "and_": "or_",
    "or_": "and_",
    "is_": "is_not",
    "is_not": "is_",
    "is_distinct_from": "is_not_distinct_from",
    "outerjoin": "join",
    "min": "max",
    "max": "min",
    "any": "all",
    "all": "any",
    "startswith": "endswith",
    "endswith": "startswith",
    "union_all": "union",
    "sorted": "list",
}
# Methods without which their object is still of use.
_DROPPED: Final = frozenset(
    {"desc", "asc", "distinct", "limit", "order_by", "where", "having", "filter", "strip", "lower", "rstrip"}
)
# Calls of which each argument matters by itself.
_OF_CONDITIONS: Final = frozenset(
    {"where", "order_by", "group_by", "and_", "or_", "distinct_on", "having", "filter", "tuple_", "is_distinct_from"}
)
# Names in SQL that mean nothing beyond their statement, and names of types.
_NAMES_ALONE: Final = frozenset(
    {"cte", "subquery", "alias", "cast", "TypeVar", "prefix_with", "getLogger", "with_variant", "set_config"}
)
# Arguments that say something to people, or that guard against mistakes of the code itself.
_UNTESTED_ARGUMENTS: Final = frozenset({"strict", "comment", "description", "note", "slots", "frozen", "stacklevel"})
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]*")
_SMALL: Final = 1000

_SQL: Final = re.compile(
    r"\b(SELECT|INSERT INTO|UPDATE|DELETE FROM|WHERE|ORDER BY|JOIN|GROUP BY|PARTITION BY|FILTER)\b"
)
_FORMULA: Final = re.compile(r"[a-z_0-9{}]+(?: [-+*/] [a-z_0-9(){}. ]+)+")
_SQL_CHANGES: Final = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\bDESC\b", "ASC"),
        (r"\bASC\b", "DESC"),
        (r"\bORDER BY [\w., ]+", ""),
        (r"(?<!BETWEEN )\bAND\b", "OR"),
        (r"\bOR\b(?! REPLACE)", "AND"),
        (r"\bIS NOT NULL\b", "IS NULL"),
        (r"\bIS NULL\b", "IS NOT NULL"),
        (r"\bIS NOT DISTINCT FROM\b", "IS DISTINCT FROM"),
        (r"\bIS DISTINCT FROM\b", "IS NOT DISTINCT FROM"),
        (r"(?<!IF )\bNOT EXISTS\b", "EXISTS"),
        (r"(?<!IF )(?<!NOT )\bEXISTS\b", "NOT EXISTS"),
        (r"\bNOT IN\b", "IN"),
        (r"(?<!NOT )\bIN \(", "NOT IN ("),
        (r"\bDISTINCT\b(?! FROM| ON)", ""),
        (r"\bLEFT JOIN\b", "JOIN"),
        (r"\bUNION ALL\b", "UNION"),
        (r"<=", "<"),
        (r">=", ">"),
        (r" < ", " <= "),
        (r" > ", " >= "),
        (r" = ", " <> "),
        (r" <> ", " = "),
        (r"\bmin\(", "max("),
        (r"\bmax\(", "min("),
        (r"\bsum\(", "max("),
        (r"\bbool_and\(", "bool_or("),
        (r"\bbool_or\(", "bool_and("),
        (r"\bgreatest\(", "least("),
        (r"\bleast\(", "greatest("),
        (r" \+ ", " - "),
        (r" - ", " + "),
        (r" \* ", " + "),
        (r" / ", " * "),
        (r"\btrue\b", "false"),
        (r"\bfalse\b", "true"),
    )
)


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of a file: the bytes from `start` to `end` become `replacement`.

    `function` is the qualified name of what it is in, empty for the module itself. `before` and `after` are the changed
    lines without indentation; together with the function they name the mutant after other lines have moved.
    """

    path: str
    function: str
    line: int
    operator: str
    start: int
    end: int
    replacement: str
    before: str
    after: str

    def applied(self, source: bytes) -> bytes:
        """Return the source with the change."""
        return source[: self.start] + self.replacement.encode() + source[self.end :]

    def is_valid(self, source: bytes) -> bool:
        """Whether the change compiles, and changes more than the form of the text."""
        try:
            return ast.dump(ast.parse(self.applied(source))) != _shape_of(source)
        except SyntaxError:
            return False

    def __str__(self) -> str:
        where = f"{self.path}:{self.line} in {self.function or 'the module'} [{self.operator}]"
        return f"{where}\n- {self.before}\n+ {self.after}"


@lru_cache(maxsize=4)
def _shape_of(source: bytes) -> str:
    return ast.dump(ast.parse(source))


def find_mutants(path: str, source: bytes) -> list[Mutant]:
    """Return the mutants of a file in the order of its text; some may not be valid."""
    finder = _Finder(source, ast.parse(source))
    changes = {change[:3]: change for change in (*finder.in_syntax(), *finder.in_sql())}
    return [
        Mutant(
            path=path,
            function=finder.function_at(start),
            line=source.count(b"\n", 0, start) + 1,
            operator=operator,
            start=start,
            end=end,
            replacement=replacement,
            before=_lines(source, start, end),
            after=_lines(source, start, end, replacement),
        )
        for start, end, replacement, operator in sorted(changes.values())
    ]


def _lines(source: bytes, start: int, end: int, replacement: str | None = None) -> str:
    """Return the lines of a change as one line, before it, or with its replacement."""
    first, last = source.rfind(b"\n", 0, start) + 1, source.find(b"\n", end)
    changed = source[start:end] if replacement is None else replacement.encode()
    text = source[first:start] + changed + source[end : last if last >= 0 else len(source)]
    return " ".join(text.decode().split())


def _called(node: ast.AST) -> str:
    """Return the name of the function or method that is called, empty for anything but a call."""
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


Change = tuple[int, int, str, str]


class _Finder:
    """Finds changes in one file; positions are those of its bytes."""

    def __init__(self, source: bytes, tree: ast.Module) -> None:
        self._source = source
        self._tree = tree
        self._line_starts = [0, *(match.end() for match in re.finditer(b"\n", source))]
        self._functions: list[tuple[int, int, str]] = []
        self._docstrings: set[int] = set()
        self._note_functions(tree, "")

    def function_at(self, position: int) -> str:
        """Return the qualified name of the innermost function or class around a position."""
        around = [(end - start, name) for start, end, name in self._functions if start <= position < end]
        return min(around)[1] if around else ""

    def _note_functions(self, node: ast.AST, parent: str) -> None:
        for child in ast.iter_child_nodes(node):
            name = parent
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{parent}.{child.name}" if parent else child.name
                self._functions.append((*self._span(child), name))
            self._note_functions(child, name)
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            # A text that stands alone below an assignment describes it.
            texts = (one.value for one in node.body if isinstance(one, ast.Expr))
            self._docstrings |= {id(text) for text in texts if isinstance(text, ast.Constant)}

    def _position(self, line: int, column: int) -> int:
        return self._line_starts[line - 1] + column

    def _span(self, node: ast.AST) -> tuple[int, int]:
        start = self._position(node.lineno, node.col_offset)  # type: ignore[attr-defined]
        return start, self._position(node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]

    def _text(self, start: int, end: int) -> str:
        return self._source[start:end].decode()

    def _between(self, left: ast.AST, right: ast.AST, pattern: str, replacement: str) -> Iterator[tuple[int, int, str]]:
        """Replace an operator between two operands."""
        start, end = self._span(left)[1], self._span(right)[0]
        if match := re.search(pattern.encode(), self._source[start:end]):
            yield start + match.start(), start + match.end(), replacement

    # Syntax

    def in_syntax(self) -> Iterator[Change]:
        """Yield the changes of statements and expressions."""
        yield from self._visit(self._tree)

    def _visit(self, node: ast.AST) -> Iterator[Change]:
        for change in self._of_node(node):
            yield (*change, type(node).__name__)
        for child in self._children(node):
            yield from self._visit(child)

    def _children(self, node: ast.AST) -> Iterator[ast.AST]:
        for name, value in ast.iter_fields(node):
            if name in {"annotation", "returns", "decorator_list", "type_comment"}:
                continue
            for child in value if isinstance(value, list) else [value]:
                is_name = isinstance(child, ast.Constant) and _called(node) in _NAMES_ALONE
                if isinstance(child, ast.AST) and not is_name and not self._is_left_out(child):
                    yield child

    def _is_left_out(self, node: ast.AST) -> bool:
        if isinstance(node, ast.Assert | ast.JoinedStr | ast.Import | ast.ImportFrom):
            return True
        if isinstance(node, ast.If):
            return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        if isinstance(node, ast.keyword):
            return node.arg in _UNTESTED_ARGUMENTS
        return id(node) in self._docstrings

    def _of_node(self, node: ast.AST) -> Iterator[tuple[int, int, str]]:
        of_kind: dict[type[ast.AST], Callable[..., Iterator[tuple[int, int, str]]]] = {
            ast.Compare: self._comparison,
            ast.BoolOp: self._boolean,
            ast.BinOp: self._arithmetic,
            ast.UnaryOp: self._negation,
            ast.Constant: self._constant,
            ast.Call: self._call,
            ast.If: self._condition,
            ast.While: self._condition,
            ast.IfExp: self._condition,
            ast.comprehension: self._filters,
        }
        if found := of_kind.get(type(node)):
            yield from found(node)
        if isinstance(node, ast.stmt):
            yield from self._deletion(node)

    def _comparison(self, node: ast.Compare) -> Iterator[tuple[int, int, str]]:
        operands = [node.left, *node.comparators]
        for operator, left, right in zip(node.ops, operands, operands[1:], strict=False):
            yield from self._between(left, right, *_COMPARISONS[type(operator)])

    def _boolean(self, node: ast.BoolOp) -> Iterator[tuple[int, int, str]]:
        pattern, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            yield from self._between(left, right, rf"\b{pattern}\b", other)

    def _arithmetic(self, node: ast.BinOp) -> Iterator[tuple[int, int, str]]:
        of_text = any(
            isinstance(side, ast.JoinedStr) or (isinstance(side, ast.Constant) and isinstance(side.value, str | bytes))
            for side in (node.left, node.right)
        )
        if type(node.op) in _ARITHMETIC and not of_text:
            yield from self._between(node.left, node.right, *_ARITHMETIC[type(node.op)])

    def _negation(self, node: ast.UnaryOp) -> Iterator[tuple[int, int, str]]:
        start, _ = self._span(node)
        if isinstance(node.op, ast.Not):
            yield start, start + len("not"), ""
        elif isinstance(node.op, ast.Invert):
            yield start, start + len("~"), ""

    def _constant(self, node: ast.Constant) -> Iterator[tuple[int, int, str]]:
        value = node.value
        if isinstance(value, bool):
            yield (*self._span(node), repr(not value))
        elif isinstance(value, int | float):
            if abs(value) < _SMALL:
                yield (*self._span(node), repr(value + 1))
        elif isinstance(value, str) and _IDENTIFIER.fullmatch(value) and node.lineno == node.end_lineno:
            yield (*self._span(node), repr(f"{value}XX"))

    def _call(self, node: ast.Call) -> Iterator[tuple[int, int, str]]:
        name_end = self._span(node.func)[1]
        name = _called(node)
        if name in _SWAPPED:
            yield name_end - len(name), name_end, _SWAPPED[name]
        if name in _DROPPED and isinstance(node.func, ast.Attribute):
            yield self._span(node.func.value)[1], self._span(node)[1], ""
        if name in _OF_CONDITIONS and len(node.args) > 1:
            yield from self._without_each(node.args)
        if name == "_scalars" or (name == "split" and not node.args):
            for text in (*node.args, getattr(node.func, "value", None)):
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    yield from self._words(text)

    def _without_each(self, arguments: Sequence[ast.expr]) -> Iterator[tuple[int, int, str]]:
        for number, argument in enumerate(arguments):
            start, end = self._span(argument)
            if number + 1 < len(arguments):
                yield start, self._span(arguments[number + 1])[0], ""
            else:
                yield self._span(arguments[number - 1])[1], end, ""

    def _words(self, text: ast.Constant) -> Iterator[tuple[int, int, str]]:
        """Take out each word of a list of words."""
        start, end = self._span(text)
        for match in re.finditer(rb"\w+", self._source[start:end]):
            yield start + match.start(), start + match.end(), ""

    def _condition(self, node: ast.If | ast.While | ast.IfExp) -> Iterator[tuple[int, int, str]]:
        yield from self._negated(node.test)

    def _filters(self, node: ast.comprehension) -> Iterator[tuple[int, int, str]]:
        for condition in node.ifs:
            yield from self._negated(condition)

    def _negated(self, condition: ast.expr) -> Iterator[tuple[int, int, str]]:
        # Comparisons and negations have changes of their own.
        if not isinstance(condition, ast.Compare | ast.UnaryOp | ast.BoolOp | ast.Constant):
            start, end = self._span(condition)
            yield start, end, f"(not ({self._text(start, end)}))"

    def _deletion(self, node: ast.stmt) -> Iterator[tuple[int, int, str]]:
        is_call = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.Await)
        is_assignment = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute | ast.Subscript)
        # An object without one of its attributes fails at once.
        is_assignment &= not self.function_at(self._span(node)[0]).endswith(".__init__")
        if is_call or is_assignment or isinstance(node, ast.AugAssign | ast.Raise | ast.Continue):
            yield (*self._span(node), "pass")

    # SQL

    def in_sql(self) -> Iterator[Change]:
        """Yield the changes of statements in SQL, and of formulas."""
        left_out = {self._span(node)[0] for node in ast.walk(self._tree) if id(node) in self._docstrings}
        for text_tokens in self._texts():
            positions = [self._token_span(token) for token in text_tokens]
            if positions[0][0] in left_out:
                continue
            text = " ".join(self._text(start, end) for start, end in positions)
            if not _SQL.search(text) and not _FORMULA.fullmatch(text.strip("frb\"' ")):
                continue
            for start, end in positions:
                for change in self._sql_changes(start, end):
                    yield (*change, "SQL")

    def _texts(self) -> Iterator[list[tokenize.TokenInfo]]:
        """Yield string tokens, those that Python joins together."""
        ignored = {tokenize.NL, tokenize.COMMENT}
        tokens = (one for one in tokenize.tokenize(io.BytesIO(self._source).readline) if one.type not in ignored)
        for is_text, group in groupby(tokens, key=lambda one: one.type == tokenize.STRING):
            if is_text:
                yield list(group)

    def _token_span(self, token: tokenize.TokenInfo) -> tuple[int, int]:
        def position(place: tuple[int, int]) -> int:
            line_start = self._line_starts[place[0] - 1]
            line = self._source[line_start:].split(b"\n", 1)[0].decode()
            return line_start + len(line[: place[1]].encode())

        return position(token.start), position(token.end)

    def _sql_changes(self, start: int, end: int) -> Iterator[tuple[int, int, str]]:
        text = self._text(start, end)
        for pattern, replacement in _SQL_CHANGES:
            for match in pattern.finditer(text):
                before = text[: match.start()]
                in_braces = before.count("{") > before.count("}")
                is_between = replacement == "OR" and re.search(r"\bBETWEEN\s+\S+\s+$", before)
                if not in_braces and not is_between:
                    first = start + len(before.encode())
                    yield first, first + len(match.group().encode()), replacement
