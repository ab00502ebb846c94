"""A container's main process: it ends after everything in the container, and tells apart who ended how."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sync_pipeline import supervisor
from sync_pipeline_tests.waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.slow

# Ends once it is told to, but its child, like a run, only when the file `finish` is there.
CODE_SERVER = """
trap 'echo server ended; exit 7' TERM
sh -c 'trap "" TERM INT; echo run started $$; until test -e finish; do sleep 0.05; done; echo run ended' &
until test -e never; do sleep 0.05; done
"""
STUBBORN_RUN = """
sh -c 'trap "" TERM; echo run started $$; until test -e never; do sleep 0.05; done' &
exit 3
"""
OBEDIENT_RUN = """
sh -c 'trap "echo run cancelled; exit" TERM; echo run started $$; until test -e never; do sleep 0.05; done' &
exit 3
"""


class Supervised:
    """A supervisor in a folder of its own, with what its command prints."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str, through: str | None = None) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "sync_pipeline.supervisor", *arguments]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                ["sh", "-c", through, "sh", *command] if through else command,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self.process

    def wait_for(self, text: str) -> str:
        return wait_until(self.log.read_text, lambda log: text in log)

    def run_pid(self) -> int:
        [line] = [line for line in self.wait_for("run started").splitlines() if line.startswith("run started")]
        return int(line.split()[-1])


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    one = Supervised(tmp_path)
    yield one
    if one.process is not None:
        with suppress(ProcessLookupError):
            os.killpg(one.process.pid, signal.SIGKILL)
        one.process.wait(PATIENCE_S)


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_a_stop_waits_for_a_run_that_outlives_the_server(supervised: Supervised) -> None:
    process = supervised.start("--", "sh", "-c", CODE_SERVER)
    run = supervised.run_pid()
    process.send_signal(signal.SIGTERM)
    supervised.wait_for("of its processes have not yet")
    # Told again, it neither ends nor has the run end.
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    assert process.poll() is None
    assert is_alive(run)
    (supervised.folder / "finish").touch()
    assert process.wait(PATIENCE_S) == 7
    assert supervised.log.read_text().splitlines()[-1] == "run ended"


def test_a_server_that_dies_by_itself_is_waited_for_too(supervised: Supervised) -> None:
    process = supervised.start("--", "sh", "-c", f"{CODE_SERVER.split('until test -e never')[0]}kill -9 $$")
    supervised.run_pid()
    supervised.wait_for("the command has ended (137)")
    assert process.poll() is None
    (supervised.folder / "finish").touch()
    assert process.wait(PATIENCE_S) == 128 + signal.SIGKILL


@pytest.mark.parametrize(("command", "code"), [("exit 0", 0), ("exit 5", 5), ("kill -TERM $$", 128 + signal.SIGTERM)])
def test_the_exit_code_is_the_commands(supervised: Supervised, command: str, code: int) -> None:
    assert supervised.start("--", "sh", "-c", command).wait(PATIENCE_S) == code
    assert supervised.log.read_text() == ""


def test_runs_that_exceed_the_time_are_told_to_end(supervised: Supervised) -> None:
    process = supervised.start("--wait", "0.5", "--kill-after", f"{PATIENCE_S}", "--", "sh", "-c", OBEDIENT_RUN)
    assert process.wait(PATIENCE_S) == 3
    log = supervised.log.read_text()
    assert "have not ended within 0.5 s: they are told to end now" in log
    assert log.splitlines()[-1] == "run cancelled"


def test_runs_that_ignore_the_end_of_the_time_are_killed(supervised: Supervised) -> None:
    process = supervised.start("--wait", "0.5", "--kill-after", "0.5", "--", "sh", "-c", STUBBORN_RUN)
    run = supervised.run_pid()
    assert process.wait(PATIENCE_S) == 3
    assert not is_alive(run)


def test_a_repeated_stop_gives_no_more_time(supervised: Supervised) -> None:
    ignoring = "trap '' TERM; echo run started $$; until test -e never; do sleep 0.05; done"
    process = supervised.start("--wait", "1", "--kill-after", "0", "--", "sh", "-c", ignoring)
    supervised.run_pid()

    def stop_again() -> int | None:
        process.send_signal(signal.SIGTERM)
        return process.poll()

    assert wait_until(stop_again, lambda code: code is not None) == 128 + signal.SIGKILL


@pytest.mark.parametrize("number", ["INT", "QUIT", "TERM", "HUP"])
def test_a_command_started_in_a_shells_background_obeys(supervised: Supervised, number: str) -> None:
    # As Dagster does: SIGTERM is handled as SIGINT is, which a shell's background jobs ignore.
    server = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT)); "
        "print('started', flush=True); time.sleep(3600)"
    )
    process = supervised.start(
        "--", sys.executable, "-c", server, through='trap "" INT QUIT HUP; "$@" & echo $! >pid; wait $!'
    )
    supervised.wait_for("started")
    os.kill(int((supervised.folder / "pid").read_text()), getattr(signal, f"SIG{number}"))
    assert process.wait(PATIENCE_S) != 0


def test_what_the_supervisor_blocks_the_command_does_not(supervised: Supervised) -> None:
    process = supervised.start("--", "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status")
    assert process.wait(PATIENCE_S) == 0
    masks = dict(line.split(":\t") for line in supervised.log.read_text().splitlines())
    # Without the real-time signals, two of which the C library keeps for itself.
    assert {name: int(mask, 16) % (1 << 31) for name, mask in masks.items()} == {"SigBlk": 0, "SigIgn": 0}


def test_orphans_that_have_ended_are_reaped(supervised: Supervised) -> None:
    # The shell in between ends at once, so `sleep` is an orphan; it ends while the command goes on.
    orphan = "sh -c 'sleep 0.1 & echo run started $!'; until test -e finish; do sleep 0.05; done"
    process = supervised.start("--", "sh", "-c", orphan)
    pid = supervised.run_pid()
    wait_until(lambda: not is_alive(pid))
    assert process.poll() is None
    (supervised.folder / "finish").touch()
    assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (["/no/such/command"], 127, "error: /no/such/command cannot be started: No such file or directory"),
        (["/"], 126, "error: / cannot be started: Permission denied"),
    ],
)
def test_a_command_that_cannot_be_started_is_an_error(
    supervised: Supervised, command: list[str], code: int, message: str
) -> None:
    assert supervised.start("--", *command).wait(PATIENCE_S) == code
    assert supervised.log.read_text() == f"{message}\n"


@pytest.mark.parametrize("arguments", [(), ("--",), ("--wait", "-1", "--", "true"), ("--wait", "nan", "--", "true")])
def test_wrong_arguments_are_an_error(supervised: Supervised, arguments: tuple[str, ...]) -> None:
    assert supervised.start(*arguments).wait(PATIENCE_S) == 2


def test_without_subreapers_it_refuses_to_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert supervisor.main(["--", "true"]) == 2
    assert "the supervisor needs Linux, and this is darwin" in capsys.readouterr().err
