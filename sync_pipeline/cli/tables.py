"""Rows and fields as aligned text, the same on a terminal and in a pipe."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from sync_pipeline.text_safety import printable_line


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: Collection[int] = ()) -> str:
    """Columns as wide as they need to be, two blanks between them; an empty value is shown as a dash.

    Columns whose number, counted from 0, is in `right` are aligned there.
    """
    lines = [header, *([printable_line(value) or "-" for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            value.rjust(width) if number in right else value.ljust(width)
            for number, (value, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def fields(values: Mapping[str, str]) -> str:
    """One field a line; those without a value are left out."""
    width = max(map(len, values))
    return "\n".join(f"{name.ljust(width)}  {printable_line(value)}" for name, value in values.items() if value)
