import pytest

from sync_pipeline.rows.names import LONGEST_NAME, NamingConvention, check_pattern


@pytest.mark.parametrize(
    ("naming", "name", "associate"),
    [
        (NamingConvention(separator=" - "), "EVIL EYE - UGC - 1001 - ALY - 001", "ALY"),
        (NamingConvention(separator="|", associate_position=1), " ALY |x", "ALY"),
        (NamingConvention(associate_position=2), "A__C", None),
        (NamingConvention(associate_position=3), "A_B", None),
        (NamingConvention(associate_position=2), "A_\ufeffALY\u200b", "ALY"),
        (NamingConvention(associate_position=2), "A_\u200b_C", None),
        (NamingConvention(associate_pattern=r"by (?P<associate>\w+)"), "Serum by ALY 2026", "ALY"),
        (NamingConvention(associate_pattern=r"(?P<associate>[^\[]*)\]"), "[ Éric ]", "Éric"),
        (NamingConvention(associate_pattern=r"by(?P<associate> *)$"), "Serum by ", None),
        (NamingConvention(associate_pattern=r"by|(?P<associate>A)"), "by", None),
        (NamingConvention(associate_pattern=r"by (?P<associate>\w+)"), "Serum", None),
    ],
)
def test_an_associate_is_where_the_convention_says(naming: NamingConvention, name: str, associate: str | None) -> None:
    assert naming.associate(name) == associate


@pytest.mark.parametrize(
    ("naming", "name", "mapping"),
    [
        (NamingConvention(separator="-", mapping_position=2), "PH - - Agriblast - 7", "Agriblast"),
        (NamingConvention(mapping_position=1), "__Agriblast", "Agriblast"),
        (NamingConvention(mapping_position=3), "A_ _B", None),
        (NamingConvention(mapping_position=2), "A_\u200b_\u200bB\u00a0", "B"),
        (NamingConvention(mapping_pattern=r"^(?P<mapping>.+)-"), "Agri\u200bblast\u200d-1", "Agriblast"),
        (NamingConvention(mapping_pattern=r"^(?P<mapping>\pL+)"), "Sữa 500g", "Sữa"),
    ],
)
def test_a_mapping_is_where_the_convention_says(naming: NamingConvention, name: str, mapping: str | None) -> None:
    assert naming.mapping(name) == mapping


def test_a_pattern_sees_the_first_500_characters() -> None:
    naming = NamingConvention(associate_pattern="(?P<associate>ALY)")
    assert naming.associate("x" * (LONGEST_NAME - 3) + "ALY") == "ALY"
    assert naming.associate("x" * (LONGEST_NAME - 2) + "ALY") is None


@pytest.mark.parametrize("pattern", ["(?P<mapping>(a+)+)$", "(?P<mapping>(a|aa)+)$", "(?P<mapping>(a|a?)+)$"])
def test_no_pattern_takes_exponential_time(pattern: str) -> None:
    check_pattern(pattern, "mapping")
    # An engine that backtracks would not return.
    assert NamingConvention(mapping_pattern=pattern).mapping("a" * 400 + "b") is None
