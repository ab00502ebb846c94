"""What a table was measured on, and how its rows are put."""

import os
import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sqlalchemy as sa

from sync_pipeline.warehouse import database, embedded, migrate


def machine() -> str:
    """Processor, cores, memory, system and Python, as one line."""
    info = Path("/proc/cpuinfo")
    models = (
        {line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")}
        if info.is_file()
        else {platform.processor()}
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{' / '.join(sorted(models))}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} "
        f"{platform.machine()}, Python {platform.python_version()}"
    )


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A Markdown table."""
    print(f"| {' | '.join(headings)} |")
    print(f"|{'|'.join('---' if n == 0 else '--:' for n in range(len(headings)))}|")
    for row in rows:
        print(f"| {' | '.join(str(value) for value in row)} |")
    print(flush=True)


def medians(measured: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median of each contender's runs."""
    return {name: statistics.median(values) for name, values in measured.items()}


def administrate(engine: sa.Engine, *statements: str) -> Sequence[Any]:
    """Run statements as the server's superuser; returns the first row of the last one, if it has any."""
    administrator = sa.create_engine(
        engine.url.set(username=embedded.SUPERUSER), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
    )
    with administrator.connect() as connection:
        results = [connection.execute(sa.text(statement)) for statement in statements]
        return results[-1].one() if results[-1].returns_rows else ()


@contextmanager
def fresh_warehouse() -> Iterator[sa.Engine]:
    """An engine on an empty, migrated warehouse of an embedded server of its own."""
    with TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        home.chmod(0o755)
        url = database.parse_url(embedded.start(home))
        database.create_database(url)
        engine = database.connect(url)
        migrate.migrate(engine)
        try:
            yield engine
        finally:
            engine.dispose()
            embedded.stop(home)
