"""The mutants of small pieces of code, and what of it has none."""

import textwrap

import pytest

from sync_pipeline_tests.mutation.equivalents import EQUIVALENTS
from sync_pipeline_tests.mutation.operators import Mutant, find_mutants
from sync_pipeline_tests.mutation.runner import ROOT
from sync_pipeline_tests.mutation.targets import TARGETS


def changes(code: str) -> list[str]:
    """The changed lines of all valid mutants, in order."""
    source = textwrap.dedent(code).encode()
    return [mutant.after for mutant in find_mutants("m.py", source) if mutant.is_valid(source)]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("x = a < b", ["x = a <= b"]),
        ("x = a not in b", ["x = a in b"]),
        ("x = a < b <= c", ["x = a <= b <= c", "x = a < b < c"]),
        ("x = a and (b) and c", ["x = a or (b) and c", "x = a and (b) or c"]),
        ("x = not a", ["x = a"]),
        ("x = ~a.b", ["x = a.b"]),
        ("x = a + b", ["x = a - b"]),
        ("x = 'text of ' + b", []),
        ("x = 1", ["x = 2"]),
        ("x = 10_000", []),
        ("x = True", ["x = False"]),
        ("x = 'status'", ["x = 'statusXX'"]),
        ("x = 'a sentence for people'", []),
        ("x = f'{a} of {b}'", []),
        ("x = a.order_by(b, c)", ["x = a", "x = a.order_by(c)", "x = a.order_by(b)"]),
        ("x = a.desc()", ["x = a"]),
        ("x = sa.and_(a, b)", ["x = sa.or_(a, b)", "x = sa.and_(b)", "x = sa.and_(a)"]),
        ("x = max(a)", ["x = min(a)"]),
        ("x = _scalars('one two')", ["x = _scalars(' two')", "x = _scalars('one ')"]),
        ("f(a)", ["pass"]),
        ("x.y = a", ["pass"]),
        ("x = a", []),
        ("x += a", ["pass"]),
        ("if f(a): raise b", ["if (not (f(a))): raise b", "if f(a): pass"]),
        ("x = [a for a in b if f(a)]", ["x = [a for a in b if (not (f(a)))]"]),
        ("assert a < b", []),
        ("def f(a: 'int | None' = None) -> 'str | int': return a", []),
        ("@dataclass(frozen=True)\nclass A: pass", []),
        ("zip(a, b, strict=True)", ["pass"]),
        ("x = a.subquery('wanted')", []),
        ("x: Final = 1", ["x: Final = 2"]),
    ],
)
def test_each_kind_of_code_has_its_mutants(code: str, expected: list[str]) -> None:
    assert changes(code) == expected


def test_docstrings_and_texts_below_assignments_have_none() -> None:
    code = '''
        """SELECT"""
        def f():
            """SELECT a FROM b WHERE c = d"""
        x = a
        """UPDATE a SET b = c"""
    '''
    assert changes(code) == []


def test_keywords_of_sql_have_mutants() -> None:
    code = """
        x = "SELECT a FROM b WHERE c = d AND e BETWEEN 1 AND 2 ORDER BY f DESC"
    """
    assert [changed.removeprefix('x = "').removesuffix('"') for changed in changes(code)] == [
        "SELECT a FROM b WHERE c <> d AND e BETWEEN 1 AND 2 ORDER BY f DESC",
        "SELECT a FROM b WHERE c = d OR e BETWEEN 1 AND 2 ORDER BY f DESC",
        "SELECT a FROM b WHERE c = d AND e BETWEEN 1 AND 2 ",
        "SELECT a FROM b WHERE c = d AND e BETWEEN 1 AND 2 ORDER BY f ASC",
    ]


def test_texts_that_python_joins_are_one_statement() -> None:
    code = """
        x = (
            "SELECT a FROM b "  # a comment
            "ON c <= d"
        )
    """
    assert changes(code) == ['"ON c < d"']


def test_formulas_have_mutants_and_placeholders_none() -> None:
    assert changes("x = f'p * (total - {a - b})'") == ["x = f'p + (total - {a - b})'", "x = f'p * (total + {a - b})'"]


def test_a_mutant_names_its_function_line_and_change() -> None:
    source = b"class A:\n    def f(self):\n        # \xc3\xa4\n        return self.a == b\n"
    [mutant] = find_mutants("m.py", source)
    assert (mutant.function, mutant.line, mutant.operator) == ("A.f", 4, "Compare")
    assert (mutant.before, mutant.after) == ("return self.a == b", "return self.a != b")
    assert mutant.applied(source) == source.replace(b"==", b"!=")


def all_mutants(path: str) -> list[Mutant]:
    return find_mutants(path, (ROOT / "sync_pipeline" / path).read_bytes())


def test_every_target_and_its_tests_exist() -> None:
    assert [path for path in TARGETS if not (ROOT / "sync_pipeline" / path).is_file()] == []
    tests = {test for tests in TARGETS.values() for test in tests}
    assert [test for test in sorted(tests) if not (ROOT / "sync_pipeline_tests" / test).is_file()] == []


def test_every_equivalent_mutant_still_exists() -> None:
    found = {path: all_mutants(path) for path in {one.path for one in EQUIVALENTS}}
    assert [one for one in EQUIVALENTS if not any(map(one.matches, found[one.path]))] == []
    assert all(one.reason for one in EQUIVALENTS)


def test_mutants_of_the_core_are_nearly_all_valid() -> None:
    source = (ROOT / "sync_pipeline" / "warehouse/refusals.py").read_bytes()
    mutants = all_mutants("warehouse/refusals.py")
    assert len(mutants) > 50
    assert len([mutant for mutant in mutants if not mutant.is_valid(source)]) < 5
