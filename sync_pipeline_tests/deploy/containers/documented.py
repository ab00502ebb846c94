"""Commands of the documentation, run as they are printed there."""

import re
from pathlib import Path

PROJECT = Path(__file__).parents[3]


def commands(page: str, containing: str) -> str:
    """Return the one block of shell commands of a page that contains this text."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", (PROJECT / page).read_text(), re.MULTILINE | re.DOTALL)
    [found] = [block for block in blocks if containing in block]
    return str(found)
