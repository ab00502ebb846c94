"""Ports for servers that a test starts in another process, where binding to port 0 is not possible."""

import fcntl
import itertools
import os
import socket
import tempfile
from pathlib import Path

# Below the range from which Linux and macOS give ports to outgoing connections and to servers on port 0.
PORTS = range(20_000, 32_000)
_LOCKS = Path(tempfile.gettempdir()) / f"sync-pipeline-tests-ports-{os.getuid()}"
_candidates = itertools.cycle([*PORTS[os.getpid() * 37 % len(PORTS) :], *PORTS[: os.getpid() * 37 % len(PORTS)]])
_held: list[int] = []


def reserve_port(address: str = "127.0.0.1") -> int:
    """Return a free port that no other test process gets before this one ends.

    The lock on a file, and not an open socket, reserves the port: the server under test binds it itself.
    """
    _LOCKS.mkdir(exist_ok=True)
    for port in itertools.islice(_candidates, len(PORTS)):
        lock = os.open(_LOCKS / str(port), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.create_server((address, port)):
                pass
        except OSError:
            os.close(lock)
            continue
        _held.append(lock)
        return port
    raise AssertionError(f"no free port in {PORTS}")
