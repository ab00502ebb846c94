"""Main process of a container whose command leaves processes behind when it ends.

    python -m sync_pipeline.supervisor [--wait SECONDS] [--kill-after SECONDS] -- COMMAND [ARGUMENT ...]

Dagster's code server waits 30 seconds for its runs when it is told to end, and then ends without them. A container ends
with its main process, and every process in it is killed. This one starts the command, forwards signals to it, and ends
only when every descendant has ended: orphans become its children (PR_SET_CHILD_SUBREAPER), and it reaps them.

From the first signal that asks the command to end, or from the command's own end, descendants have `--wait` seconds.
Those that are left are told to end (SIGTERM), which cancels runs, and `--kill-after` seconds later they are killed.
Keep the sum below the grace period after which the engine kills the container.

The exit code is that of the command, or 128 plus the number of the signal that ended it. Only Linux has subreapers;
elsewhere the supervisor refuses to start.
"""

import argparse
import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sync_pipeline import logs
from sync_pipeline.errors import SyncPipelineError

WAIT_S = 560.0
KILL_AFTER_S = 20.0
KILL_EVERY_S = 0.1

PR_SET_CHILD_SUBREAPER = 36


def _signals(*names: str) -> frozenset[signal.Signals]:
    """The signals of these names that the operating system has."""
    return frozenset(signal.Signals[name] for name in names if name in signal.Signals.__members__)


# Signals that ask to end, and start the clock.
STOP_SIGNALS = _signals("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP")
FORWARDED = STOP_SIGNALS | _signals("SIGUSR1", "SIGUSR2")
TAKEN = FORWARDED | _signals("SIGCHLD")
# A shell starts its background jobs with SIGINT and SIGQUIT ignored, and Python ignores SIGPIPE and SIGXFSZ. The
# command must inherit none of that: Dagster handles SIGTERM as it handles SIGINT, so it would ignore that it is told to
# end.
RESET = TAKEN | _signals("SIGPIPE", "SIGXFSZ")

USAGE_ERROR = 2
CANNOT_EXECUTE = 126
NOT_FOUND = 127
SIGNALLED = 128


class UnsupportedPlatformError(SyncPipelineError):
    """The operating system cannot make orphans the children of another process than the first."""

    def __init__(self, platform: str) -> None:
        super().__init__(
            f"the supervisor needs Linux, and this is {platform}: start the command without it. Processes that the "
            "command leaves behind then go on by themselves"
        )
        self.platform = platform


class CommandError(SyncPipelineError):
    """The command cannot be started; `exit_code` is a shell's."""

    def __init__(self, command: str, error: OSError) -> None:
        super().__init__(f"{command} cannot be started: {error.strerror}")
        self.command = command
        self.exit_code = NOT_FOUND if isinstance(error, FileNotFoundError) else CANNOT_EXECUTE


@dataclass(frozen=True, slots=True)
class Limits:
    """How long descendants may take to end by themselves, and then after SIGTERM."""

    wait_s: float = WAIT_S
    kill_after_s: float = KILL_AFTER_S


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m sync_pipeline.supervisor", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--wait", type=_seconds, default=WAIT_S, help="seconds that descendants have to end")
    parser.add_argument("--kill-after", type=_seconds, default=KILL_AFTER_S, help="seconds between SIGTERM and SIGKILL")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args(arguments)
    command = given.command[1:] if given.command[:1] == ["--"] else given.command
    if not command:
        parser.error("no command is given")
    try:
        logs.configure()
        return supervise(command, Limits(given.wait, given.kill_after))
    except CommandError as error:
        logs.tell(str(error))
        return error.exit_code
    except SyncPipelineError as error:
        logs.tell(str(error))
        return USAGE_ERROR


def supervise(command: Sequence[str], limits: Limits) -> int:
    """Run the command until it and all of its descendants have ended; returns its exit code.

    Raises `UnsupportedPlatformError` and `CommandError`.
    """
    _become_subreaper()
    # An inherited SIG_IGN would have the kernel reap children, and their exit codes would be lost.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, TAKEN)
    try:
        child = os.posix_spawnp(command[0], list(command), os.environ, setsigmask=(), setsigdef=RESET)
    except OSError as error:
        raise CommandError(command[0], error) from None
    return _Supervision(child, limits).run()


class _Supervision:
    """The loop, which alone receives signals: all of them are blocked and are taken one at a time."""

    def __init__(self, child: int, limits: Limits) -> None:
        self._child = child
        self._limits = limits
        self._code: int | None = None
        # What to do when the time is up, and when that is.
        self._escalation: Callable[[], None] = self._terminate
        self._deadline: float | None = None

    def run(self) -> int:
        while self._reap():
            taken = self._next_signal()
            if taken is None:
                self._escalation()
            elif taken != signal.SIGCHLD:
                self._forward(taken)
        return SIGNALLED + signal.SIGKILL if self._code is None else self._code

    def _reap(self) -> bool:
        """Collect the processes that have ended; returns whether there are any others."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._child:
                code = os.waitstatus_to_exitcode(status)
                self._code = SIGNALLED - code if code < 0 else code
                self._start_clock()
                if left := len(list(_descendants(os.getpid()))):
                    logs.tell(
                        f"the command has ended ({self._code}), {left} of its processes have not yet", logging.WARNING
                    )

    def _next_signal(self) -> signal.Signals | None:
        """Wait for a signal; None when the time is up."""
        if self._deadline is None:
            return signal.Signals(signal.sigwait(TAKEN))
        taken = signal.sigtimedwait(TAKEN, max(0.0, self._deadline - time.monotonic()))
        return signal.Signals(taken.si_signo) if taken else None

    def _forward(self, taken: signal.Signals) -> None:
        # Not reaped, so the id is still the command's own.
        if self._code is None:
            os.kill(self._child, taken)
        if taken in STOP_SIGNALS:
            self._start_clock()

    def _start_clock(self) -> None:
        """Begin to wait for descendants, unless that has begun: a repeated signal gives no more time."""
        if self._deadline is None:
            self._deadline = time.monotonic() + self._limits.wait_s

    def _terminate(self) -> None:
        left = list(_descendants(os.getpid()))
        if left:
            logs.tell(
                f"{len(left)} processes have not ended within {self._limits.wait_s:g} s: they are told to end now, and "
                f"killed in {self._limits.kill_after_s:g} s",
                logging.WARNING,
            )
        _signal_all(left, signal.SIGTERM)
        self._escalation = self._kill
        self._deadline = time.monotonic() + self._limits.kill_after_s

    def _kill(self) -> None:
        # Again and again, until none is left: a process may have started another one meanwhile.
        _signal_all(_descendants(os.getpid()), signal.SIGKILL)
        self._deadline = time.monotonic() + KILL_EVERY_S


def _become_subreaper() -> None:
    if sys.platform != "linux":
        raise UnsupportedPlatformError(sys.platform)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"orphans cannot be adopted: {os.strerror(number)}")


def _descendants(ancestor: int) -> Iterator[int]:
    """Processes that the ancestor or one of its descendants started, or adopted."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (parent := _parent(entry)) is not None:
            children.setdefault(parent, []).append(int(entry.name))
    found = [ancestor]
    while found:
        generation = children.get(found.pop(), [])
        yield from generation
        found += generation


def _parent(process: Path) -> int | None:
    try:
        stat = (process / "stat").read_text()
    except OSError:  # it has ended
        return None
    # The name, in brackets, may hold anything; the state and the parent follow it.
    return int(stat.rpartition(")")[2].split()[1])


def _signal_all(processes: Iterable[int], number: signal.Signals) -> None:
    for process in processes:
        try:
            os.kill(process, number)
        except ProcessLookupError:
            continue


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise ValueError(text)
    return seconds


if __name__ == "__main__":
    sys.exit(main())
