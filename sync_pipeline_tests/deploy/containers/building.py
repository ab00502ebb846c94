"""What a build needs to reach the package index of this machine: arguments and certificates."""

import os
import subprocess
import sys
from pathlib import Path

# Compose and BuildKit read these by themselves, as arguments that no image contains.
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def build_arguments() -> dict[str, str]:
    """Return the build arguments for this machine: its package index and its proxies, where it has any."""
    arguments = {name: os.environ.get(name) or os.environ.get(name.lower(), "") for name in PROXIES}
    arguments["INDEX_URL"] = package_index()
    return {name: value for name, value in arguments.items() if value}


def certificates() -> Path | None:
    """Return the file of certificates that this machine trusts, if it is set."""
    named = os.environ.get("SSL_CERT_FILE", "")
    return Path(named) if named and Path(named).is_file() else None


def package_index() -> str:
    """Return the URL of the package index that this machine is set to, "" for the default."""
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        if os.environ.get(name):
            return os.environ[name]
    configured = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True, check=False
    )
    return configured.stdout.strip()
