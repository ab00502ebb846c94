"""Mutants that change nothing that a test could see, each with its reason."""

from dataclasses import dataclass
from typing import Final

from sync_pipeline_tests.mutation.operators import Mutant


@dataclass(frozen=True, slots=True)
class Equivalent:
    """A mutant by its module, function and changed lines. `before` and `after` None: every mutant of the function."""

    path: str
    function: str
    before: str | None
    after: str | None
    reason: str

    def matches(self, mutant: Mutant) -> bool:
        """Whether this describes the mutant."""
        return (
            (self.path, self.function) == (mutant.path, mutant.function)
            and self.before in {None, mutant.before}
            and self.after in {None, mutant.after}
        )


EQUIVALENTS: Final[tuple[Equivalent, ...]] = (
    Equivalent(
        "sources/meta.py",
        "MetaClient.__init__",
        "self.unreadable_statuses = 0",
        "self.unreadable_statuses = 1",
        "only by how much the number grows is read",
    ),
)


def reason_of(mutant: Mutant) -> str | None:
    """Return why a mutant is equivalent, None where it is not known to be."""
    return next((one.reason for one in EQUIVALENTS if one.matches(mutant)), None)
