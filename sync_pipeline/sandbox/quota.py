"""Meta's call quota: every read is a point, points decay, too many of them block the caller for a while."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class _Score:
    points: float = 0.0
    counted_at: float = 0.0
    blocked_until: float = 0.0


class Quota:
    """A score per ad account (and one per token for calls that name none).

    `points` is the most the score may reach and `decay_seconds` the time a full score takes to decay to zero; beyond it
    the account is blocked for `block_seconds`, and a call while blocked starts that time anew. `clock` counts seconds.
    The defaults are those of standard access. `code` is the error's when an account is blocked: 17 or 80000.
    """

    def __init__(
        self,
        *,
        points: float = 9000,
        decay_seconds: float = 300,
        block_seconds: float = 60,
        code: int = 17,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._skipped = 0.0
        self.configure(points=points, decay_seconds=decay_seconds, block_seconds=block_seconds, code=code)
        self._first_limits = points, decay_seconds, block_seconds, code

    def configure(
        self, *, points: float, decay_seconds: float = 300, block_seconds: float = 60, code: int = 17
    ) -> None:
        """Sets the quota anew and forgets all scores."""
        self.points = points
        self.decay_seconds = decay_seconds
        self.block_seconds = block_seconds
        self.code = code
        self._scores: dict[str, _Score] = {}

    def reset(self) -> None:
        """Back to the limits it was made with, and no scores."""
        points, decay_seconds, block_seconds, code = self._first_limits
        self.configure(points=points, decay_seconds=decay_seconds, block_seconds=block_seconds, code=code)

    def advance(self, seconds: float) -> None:
        """Lets time pass at once: what a test's stand-in for `sleep` calls."""
        self._skipped += seconds

    def take(self, caller: str, points: int = 1) -> bool:
        """Counts a call; False where the caller is blocked."""
        now = self._now()
        score = self._scores.setdefault(caller, _Score(counted_at=now))
        score.points = self._decayed(score, now)
        score.counted_at = now
        if now < score.blocked_until:
            score.blocked_until = now + self.block_seconds
            return False
        if score.points + points > self.points:
            score.blocked_until = now + self.block_seconds
            return False
        score.points += points
        return True

    def used_percent(self, caller: str) -> float:
        """How much of the score is used up, 0 to 100."""
        score = self._scores.get(caller)
        if score is None:
            return 0.0
        now = self._now()
        blocked = now < score.blocked_until or not self.points
        return 100.0 if blocked else min(100.0, 100 * self._decayed(score, now) / self.points)

    def seconds_left(self, caller: str) -> float:
        """How long the caller is still blocked; 0 where it is not."""
        score = self._scores.get(caller)
        return 0.0 if score is None else max(0.0, score.blocked_until - self._now())

    def minutes_left(self, caller: str) -> int:
        """The same in whole minutes, rounded up, as Meta's header has it."""
        return math.ceil(self.seconds_left(caller) / 60)

    def _decayed(self, score: _Score, now: float) -> float:
        return max(0.0, score.points - self.points * (now - score.counted_at) / self.decay_seconds)

    def _now(self) -> float:
        return self._clock() + self._skipped
