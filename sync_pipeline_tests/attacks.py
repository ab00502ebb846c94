"""Tenant files that were made, or went wrong, so that they harm whoever loads them."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

import yaml

TENANT: Final = """\
tenant: {id}
name: A tenant
start_date: 2024-11-01
meta: {{access_token: {{env: META_TOKEN}}}}
workflows: [{{name: nightly, sources: [meta], date_range: {{type: rolling}}}}]
"""


def text(content: str) -> Callable[[Path], None]:
    """A tenant file that ends with this content."""
    return lambda file: file.write_bytes((TENANT.format(id="attack") + content).encode()) and None


def replaced(old: str, new: str) -> Callable[[Path], None]:
    """A tenant file with a part of it replaced."""
    content = TENANT.format(id="attack")
    assert old in content
    return lambda file: file.write_text(content.replace(old, new)) and None


def raw(content: bytes) -> Callable[[Path], None]:
    """A file of these bytes."""
    return lambda file: file.write_bytes(content) and None


def link(target: str) -> Callable[[Path], None]:
    """A link."""
    return lambda file: file.symlink_to(target)


def make_socket(file: Path) -> None:
    """A socket, made under a short path."""
    here = Path.cwd()
    os.chdir(file.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(file.name)
    finally:
        os.chdir(here)


def make_sparse(file: Path) -> None:
    """A file of a terabyte that takes no room."""
    with file.open("wb") as opened:
        opened.truncate(10**12)


def _chain(line: str, times: int) -> str:
    return "\n".join(["a0: &a0 {k: v}", *(line.format(n=n, before=n - 1) for n in range(1, times)), ""])


MERGE_BOMB: Final = _chain("a{n}: &a{n} {{<<: [*a{before}, *a{before}, *a{before}, *a{before}]}}", 14)
CRON: Final = "date_range: {type: rolling}"

FILES: Final[dict[str, Callable[[Path], None]]] = {
    "merge bomb": text(MERGE_BOMB),
    "billion laughs": text(_chain("a{n}: &a{n} [" + ", ".join(["*a{before}"] * 9) + "]", 15)),
    "alias of itself": text("a: &a [*a]\n"),
    "merge of itself": text("a: &a {<<: *a}\n"),
    "many keys": text("".join(f"k{n}: v\n" for n in range(200_000))),
    "100,000 keys": text("".join(f"k{n}: v\n" for n in range(100_000))),
    "9,000 unknown keys": text("".join(f"k{n}: v\n" for n in range(9_000))),
    "keys of one hash": text("".join(f"{n * (2**61 - 1)}: v\n" for n in range(1, 9_000))),
    "deep brackets": text("a: " + "[" * 100_000),
    "deep dashes": text("a:\n  " + "- " * 100_000),
    "long cron": replaced(CRON, f'{CRON}, schedule: "{",".join(["*/1"] * 2_000)} 2 * * *"'),
    "cron of no time": replaced(CRON, f'{CRON}, schedule: "0 0 31 2,4,6,9,11 5#5"'),
    "long text": replaced("A tenant", "x" * 900_000),
    "long timezone": text(f"timezone: {'x' * 900_000}\n"),
    "surrogate": replaced("A tenant", '"\\uD800"'),
    "surrogate key": text('"\\uD800": 1\n'),
    "NUL in the text": raw(TENANT.format(id="attack").encode() + b"a: \0\n"),
    "NUL escaped": replaced("A tenant", '"a\\0b"'),
    "not UTF-8": raw(b"tenant: \xff\xfe\n"),
    "binary": raw(bytes(range(256)) * 1_000),
    "costs are a device": text("product_costs: /dev/zero\n"),
    "costs have an impossible name": text('product_costs: "a\\0b"\n'),
    "too large": make_sparse,
    "pipe": lambda file: os.mkfifo(file),
    "socket": make_socket,
    "folder": lambda file: file.mkdir(),
    "device": link("/dev/zero"),
    "random device": link("/dev/urandom"),
    "terminal": link("/dev/tty"),
    "loop of links": lambda file: file.symlink_to(file.name),
    "link to nowhere": link("nowhere"),
    "own folder": link("."),
    "process memory": link("/proc/self/mem"),
}


def healthy(folder: Path, *ids: str) -> None:
    """Write tenant files with nothing wrong in them."""
    for tenant_id in ids:
        (folder / f"{tenant_id}.yaml").write_text(TENANT.format(id=tenant_id))
        assert yaml.safe_load((folder / f"{tenant_id}.yaml").read_text())["tenant"] == tenant_id
