"""deploy/compose.yaml as data: what each container runs, and with which variables."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
ENTRYPOINT = ["with-secrets"]


@dataclass(frozen=True)
class Service:
    """A container: what it runs, and all of its variables, the image's among them."""

    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    healthcheck: tuple[str, ...]
    environment: dict[str, str]


@cache
def document() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return loaded


@cache
def service(name: str) -> Service:
    declared = document()["services"][name]
    ours = "sync-pipeline" in declared["image"]
    entrypoint = declared.get("entrypoint", ENTRYPOINT if ours else [])
    variables = {key: interpolated(value) for key, value in declared["environment"].items()}
    kind, *healthcheck = (interpolated(word) for word in declared.get("healthcheck", {}).get("test", ["CMD"]))
    assert kind == "CMD"
    return Service(
        tuple(entrypoint),
        tuple(declared.get("command", [])),
        tuple(healthcheck),
        {**(image_variables() if ours else {}), **variables},
    )


def interpolated(text: str) -> str:
    """What Compose makes of a value if no variable is set: the defaults of `${NAME:-default}`, and `$` of `$$`."""
    while (replaced := re.sub(r"\$\{\w+:-([^${}]*)\}", r"\1", text)) != text:
        text = replaced
    return text.replace("$$", "$")


@cache
def image_variables() -> dict[str, str]:
    """What the last stage of the Dockerfile sets."""
    last_stage = (DEPLOY / "Dockerfile").read_text().split("\nFROM ")[-1]
    [block] = re.findall(r"^ENV ((?:.*\\\n)*.*)", last_stage, re.MULTILINE)
    return dict(word.split("=", 1) for word in block.replace("\\\n", " ").split())


def base_image() -> str:
    """The base of the Dockerfile's stages where no other is given."""
    [image] = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    return str(image)
