import json
import os
import signal
import socket
import subprocess
import sys
from typing import IO

import pytest
import requests

from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline_tests.waiting import PATIENCE_S

COMMAND = [sys.executable, "-m", "sync_pipeline.sandbox"]


def environment_printed(stdout: IO[str] | None) -> dict[str, str]:
    assert stdout is not None
    printed: dict[str, str] = json.loads(stdout.readline())
    return printed


def test_the_environment_names_all_a_pipeline_needs(sandbox: SandboxServer) -> None:
    assert set(sandbox.environment) == {
        "META_GRAPH_URL",
        "PANCAKE_API_URL",
        "SANDBOX_CONTROL_URL",
        "LUMINA_META_TOKEN",
        "LUMINA_PANCAKE_KEY",
        "MEKONG_META_TOKEN",
        "MEKONG_PANCAKE_KEY_HANOI",
        "MEKONG_PANCAKE_KEY_SAIGON",
    }
    assert len(set(sandbox.environment.values())) == 8


def test_two_servers_live_side_by_side() -> None:
    with SandboxServer(ads=10) as small, SandboxServer(ads=20) as large:
        sizes = [
            sum(
                requests.get(one.environment["SANDBOX_CONTROL_URL"], timeout=PATIENCE_S)
                .json()["tenants"]["lumina"]["accounts"]
                .values()
            )
            for one in (small, large)
        ]
    assert sizes == [10, 20]
    with pytest.raises(requests.exceptions.ConnectionError):
        requests.get(small.environment["SANDBOX_CONTROL_URL"], timeout=PATIENCE_S)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_the_command_prints_one_line_serves_and_ends_on_a_signal(ending: signal.Signals) -> None:
    with subprocess.Popen([*COMMAND, "--ads", "12"], stdout=subprocess.PIPE, text=True) as process:
        environment = environment_printed(process.stdout)
        overview = requests.get(environment["SANDBOX_CONTROL_URL"], timeout=PATIENCE_S).json()
        assert sum(overview["tenants"]["mekong"]["accounts"].values()) == 12
        process.send_signal(ending)
        rest, _ = process.communicate(timeout=PATIENCE_S)
        assert rest == ""


def test_the_command_ends_with_the_process_that_started_it() -> None:
    script = f"import subprocess, time; subprocess.Popen({COMMAND!r}); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        environment = environment_printed(parent.stdout)
        assert requests.get(environment["SANDBOX_CONTROL_URL"], timeout=PATIENCE_S).ok
        os.kill(parent.pid, signal.SIGKILL)
        # The pipe ends when the last process that writes to it does.
        rest, _ = parent.communicate(timeout=PATIENCE_S)
        assert rest == ""
    with pytest.raises(requests.exceptions.ConnectionError):
        requests.get(environment["SANDBOX_CONTROL_URL"], timeout=PATIENCE_S)


def test_nothing_else_is_served(sandbox: SandboxServer) -> None:
    assert requests.get(f"{sandbox.origin}/", timeout=PATIENCE_S).status_code == 404


def test_only_this_machine_is_listened_to_unless_another_address_is_given(sandbox: SandboxServer) -> None:
    assert sandbox.origin.startswith("http://127.0.0.1:")
    port = int(sandbox.origin.rpartition(":")[2])
    # Every address of 127.0.0.0/8 is this machine, so what answers on another one listens on all of them.
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=PATIENCE_S)
    with SandboxServer(ads=10, host="0.0.0.0") as everywhere:  # noqa: S104
        port = int(everywhere.origin.rpartition(":")[2])
        socket.create_connection(("127.0.0.2", port), timeout=PATIENCE_S).close()
