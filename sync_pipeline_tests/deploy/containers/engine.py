"""The container engine, through its command line, and what it says of images and containers."""

import json
import os
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import Any

# For a command of the engine; a build downloads packages.
COMMAND_TIMEOUT_S = 600.0


class EngineError(AssertionError):
    """A command of the engine failed; the message has what it printed."""

    def __init__(self, command: Sequence[str], done: "subprocess.CompletedProcess[str]") -> None:
        super().__init__(
            f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
        )
        self.done = done


def run(
    *command: str,
    check: bool = True,
    text: str = "",
    timeout_s: float = COMMAND_TIMEOUT_S,
    folder: "str | os.PathLike[str] | None" = None,
    **environment: str,
) -> "subprocess.CompletedProcess[str]":
    """Run a command with `text` as its input; raises `EngineError` where it fails, unless `check` is off."""
    done = subprocess.run(
        command,
        input=text,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        timeout=timeout_s,
        cwd=folder,
        env={**os.environ, **environment},
    )
    if check and done.returncode != 0:
        raise EngineError(command, done)
    return done


@dataclass(frozen=True)
class Layer:
    """A layer of an image: its digest, the instruction that made it, and the bytes of the files in it."""

    digest: str
    instruction: str
    size: int


@dataclass(frozen=True)
class Engine:
    """The engine that the client reaches with the variables of this process."""

    version: str

    def docker(self, *arguments: str, check: bool = True, text: str = "") -> "subprocess.CompletedProcess[str]":
        return run("docker", *arguments, check=check, text=text)

    def inspect(self, *arguments: str) -> dict[str, Any]:
        """What the engine knows of an image, a container, a network or a volume."""
        [found] = json.loads(self.docker("inspect", *arguments).stdout)
        described: dict[str, Any] = found
        return described

    def layers(self, image: str) -> list[Layer]:
        """The layers of an image, lowest first."""
        digests: list[str] = self.inspect("--type", "image", image)["RootFS"]["Layers"]
        lines = self.docker(
            "history", "--no-trunc", "--human=false", "--format", "{{json .}}", image
        ).stdout.splitlines()
        steps = [json.loads(line) for line in reversed(lines)]
        made = [(str(step["CreatedBy"]), int(step["Size"])) for step in steps]
        # An instruction that only describes the image has no layer; a folder that exists already is an empty one.
        filled = [step for step in made if step[1] > 0 or step[0].startswith("WORKDIR")]
        assert len(filled) == len(digests), (filled, digests)
        return [Layer(digest, *step) for digest, step in zip(digests, filled, strict=True)]

    def layers_above(self, image: str, base: str) -> list[Layer]:
        """The layers that an image adds to its base."""
        lower = {layer.digest for layer in self.layers(base)}
        found = self.layers(image)
        assert lower <= {layer.digest for layer in found}, f"{image} is not made from {base}"
        return [layer for layer in found if layer.digest not in lower]

    def files(self, image: str) -> list[tarfile.TarInfo]:
        """All files of an image, with owner and mode."""
        container = self.docker("create", image).stdout.strip()
        try:
            with TemporaryFile() as archive:
                subprocess.run(["docker", "export", container], check=True, stdout=archive)  # noqa: S607
                archive.seek(0)
                with tarfile.open(fileobj=archive) as opened:
                    return opened.getmembers()
        finally:
            self.docker("rm", "--volumes", container)

    def run_once(self, image: str, *command: str, options: Sequence[str] = ()) -> "subprocess.CompletedProcess[str]":
        """Run a command in a new container that is deleted afterwards, without a network."""
        return self.docker("run", "--rm", "--network", "none", *options, image, *command)


def find_engine() -> "Engine | str":
    """Return the engine, or why there is none."""
    try:
        version = run("docker", "version", "--format", "{{.Server.Version}}", check=False, timeout_s=30)
        compose = run("docker", "compose", "version", "--short", check=False, timeout_s=30)
    except FileNotFoundError:
        return "the command docker is not installed"
    except subprocess.TimeoutExpired:
        return "the container engine does not answer"
    if version.returncode != 0:
        return f"no container engine can be reached: {version.stderr.strip().splitlines()[-1]}"
    if compose.returncode != 0 or not compose.stdout.strip().removeprefix("v")[:1] >= "2":
        return "the plugin docker-compose 2 is not installed"
    return Engine(version.stdout.strip())
