"""What README.md has an installation make by hand: passwords, and tenant files with their secrets beside them."""

import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from sync_pipeline_tests.deploy import compose
from sync_pipeline_tests.pipeline import DEMO_TENANTS, schedule_months_ahead


def write_secrets(folder: Path) -> None:
    """Write a file for every secret that compose.yaml names."""
    folder.mkdir()
    for name in compose.document()["secrets"]:
        # A password may be any text, also one that means something else in a URL.
        (folder / name).write_text(f"{secrets.token_urlsafe(32)}@/%:'")


def write_tenant(tenants: Path, secret_files: Path, tenant: str, demo: str, environment: Mapping[str, str]) -> None:
    """Write the file of a tenant that is a copy of a demo tenant, and its secrets, which `environment` holds."""
    text = schedule_months_ahead((DEMO_TENANTS / f"{demo}.yaml").read_text())
    text = text.replace(f"tenant: {demo}", f"tenant: {tenant}")
    for variable in re.findall(r"\{env: (\w+)\}", text):
        (secret_files / f"{tenant}_{variable}").write_text(environment[variable])
    # A request series for every day, so that a run has a middle that a test can disturb.
    text = text.replace("  accounts: all", "  accounts: all\n  days_per_request: 1")
    text = text.replace("    shops: all", "    shops: all\n    days_per_request: 1")
    text = re.sub(r"\{env: (\w+)\}", rf"{{file: ../secrets/{tenant}_\1}}", text)
    (tenants / f"{tenant}.yaml").write_text(text)
    shutil.copy(DEMO_TENANTS / f"{demo}_costs.csv", tenants)
