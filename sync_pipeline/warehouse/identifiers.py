"""Identifiers in SQL that is put together as text."""


def quoted(name: str) -> str:
    """Quote a name as an identifier."""
    return '"' + name.replace('"', '""') + '"'
