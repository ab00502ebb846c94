"""Machines of their own: network namespaces on a bridge, or, where those cannot be made, this machine alone."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from sync_pipeline_tests.ports import reserve_port


@dataclass(frozen=True)
class Machine:
    """Where processes run, and the address that others reach them by."""

    address: str
    namespace: str | None = None

    def command(self, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.namespace, *command] if self.namespace else list(command)

    def port(self, wanted: int) -> int:
        """The port to listen on: the wanted one where nobody else can have it."""
        if self.namespace:
            return wanted
        return reserve_port(self.address)


HERE = Machine("127.0.0.1")


@contextmanager
def machines(count: int) -> Iterator[tuple[Machine, list[Machine]]]:
    """This machine as others see it, and `count` others; where there is no root they are all this one."""
    number = os.getpid()
    bridge, subnet = f"spb{number}", f"10.{64 + number // 250 % 64}.{number % 250}"
    with ExitStack() as stack:

        def ip(*arguments: str, undone_by: str = "") -> None:
            subprocess.run(["ip", *arguments], check=True, capture_output=True)  # noqa: S607
            if undone_by:
                stack.callback(subprocess.run, ["ip", *undone_by.split()], check=False, capture_output=True)

        others: list[Machine] = []
        try:
            ip("link", "add", bridge, "type", "bridge", undone_by=f"link del {bridge}")
            ip("addr", "add", f"{subnet}.1/24", "dev", bridge)
            ip("link", "set", bridge, "up")
            for n in range(count):
                name, inner, outer = f"sp-{number}-{n}", f"spi{number}{n}", f"spo{number}{n}"
                ip("netns", "add", name, undone_by=f"netns del {name}")
                ip("link", "add", outer, "type", "veth", "peer", "name", inner)
                ip("link", "set", inner, "netns", name)
                ip("link", "set", outer, "master", bridge, "up")
                ip("-n", name, "addr", "add", f"{subnet}.{n + 2}/24", "dev", inner)
                ip("-n", name, "link", "set", inner, "up")
                ip("-n", name, "link", "set", "lo", "up")
                others.append(Machine(f"{subnet}.{n + 2}", name))
        except (OSError, subprocess.CalledProcessError):
            yield HERE, [HERE] * count
            return
        yield Machine(f"{subnet}.1"), others
