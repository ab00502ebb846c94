"""Every peer in an environment of its own, installed once, with exact versions."""

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

PINS = {
    "dlt": ("dlt[postgres]==1.31.0", "psycopg2-binary==2.9.13", "facebook-business==26.0.3"),
    "airbyte": ("airbyte-source-facebook-marketing==6.1.9", "airbyte-cdk==7.39.1", "facebook-business==25.0.3"),
    "sdk": ("facebook-business==26.0.3", "psycopg2-binary==2.9.13"),
}


def python_of(peer: str, cache: Path) -> Path:
    """The Python of a peer's environment under `cache`; the environment is made where it is not there yet."""
    folder = cache / peer
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    complete = folder / "installed.txt"
    wanted = "\n".join(PINS[peer])
    if complete.is_file() and complete.read_text() == wanted:
        return python
    print(f"installing {', '.join(PINS[peer])} into {folder}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    # Elsewhere, so that the constraints in this project's pyproject.toml do not bind peers.
    with TemporaryDirectory() as elsewhere:
        uv = [sys.executable, "-m", "uv"]
        for command in (
            [*uv, "venv", "-q", "--python", sys.executable, str(folder)],
            [*uv, "pip", "install", "-q", "--python", str(python), *PINS[peer]],
        ):
            subprocess.run(command, cwd=elsewhere, check=True)
    complete.write_text(wanted)
    return python


def checkout(source: str, commit: str, folder: str, cache: Path) -> Path:
    """A folder of a Git repository (an address or a path) as of a commit, cloned under `cache` once."""
    place = cache / f"{Path(source).stem}-{commit[:12]}"
    if not (place / folder).is_dir():
        print(f"cloning {source}", file=sys.stderr, flush=True)
        shutil.rmtree(place, ignore_errors=True)
        git = shutil.which("git") or "git"
        subprocess.run([git, "clone", "-q", "--no-checkout", source, str(place)], check=True)
        subprocess.run([git, "-C", str(place), "checkout", "-q", commit, "--", folder], check=True)
    return place / folder
