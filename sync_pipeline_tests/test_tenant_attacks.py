"""An attack by one tenant's file costs little and leaves the other tenants as they are."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sync_pipeline import tenants
from sync_pipeline.tenants import MissingSecretError, Tenant, load_tenants
from sync_pipeline_tests import attacks

# In a process of its own: an attack that succeeds hangs, or takes all memory.
LOAD = """
import json, resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
from sync_pipeline.tenants import load_tenants
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
loaded = load_tenants(Path(sys.argv[1]), *json.loads(sys.argv[2]))
print(json.dumps({
    "tenants": [tenant.tenant_id for tenant in loaded.tenants],
    "broken": [list(broken.problems) for broken in loaded.broken],
    "megabytes": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
}))
"""
# What croniter and Dagster need, which one attack imports, is part of it.
MEGABYTES = 150


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "tenants"
    folder.mkdir()
    attacks.healthy(folder, "alpha", "zulu")
    return folder


def loaded_apart(folder: Path, only: list[str] | None = None) -> dict[str, Any]:
    command = [sys.executable, "-c", LOAD, str(folder), json.dumps([only] if only else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", attacks.FILES)
def test_an_attack_leaves_the_other_tenants_loaded(folder: Path, name: str) -> None:
    attacks.FILES[name](folder / "attack.yaml")
    found = loaded_apart(folder)
    assert found["tenants"] == ["alpha", "zulu"]
    [problems] = found["broken"]
    assert all(problem.startswith(f"{folder}/attack.yaml: ") and problem.isprintable() for problem in problems)
    assert all(len(problem) < 500 for problem in problems)
    assert len(problems) <= (21 if name in {"9,000 unknown keys", "keys of one hash"} else 1)
    assert found["megabytes"] < MEGABYTES


def test_all_attacks_at_once_leave_one_tenant_to_be_found(folder: Path) -> None:
    for number, make in enumerate(attacks.FILES.values()):
        make(folder / f"attack_{number:03}.yaml")
    found = loaded_apart(folder, only=["zulu"])
    assert found["tenants"] == ["zulu"]
    assert found["megabytes"] < MEGABYTES


def test_a_file_whose_name_is_not_utf8_is_set_aside(folder: Path) -> None:
    name = os.fsdecode(b"caf\xe9.yaml")
    (folder / name).write_text(attacks.TENANT.format(id="cafe"))
    loaded = load_tenants(folder)
    assert [tenant.tenant_id for tenant in loaded.tenants] == ["alpha", "zulu"]
    assert loaded.broken[0].problems == (f"{folder}/caf\\udce9.yaml: has a name that is not UTF-8 text; rename it",)


@pytest.mark.parametrize("raised", [KeyError, RecursionError, UnicodeEncodeError("utf-8", "MARKER", 0, 1, "MARKER")])
def test_an_unforeseen_error_affects_one_file(
    folder: Path, raised: type[Exception] | Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "attack.yaml").write_text(attacks.TENANT.format(id="attack"))
    validate = Tenant.model_validate

    def fail(data: dict[str, Any], **options: Any) -> Tenant:
        if data["tenant"] == "attack":
            raise raised
        return validate(data, **options)

    monkeypatch.setattr(Tenant, "model_validate", fail)
    loaded = load_tenants(folder)
    assert [tenant.tenant_id for tenant in loaded.tenants] == ["alpha", "zulu"]
    kind = raised.__name__ if isinstance(raised, type) else type(raised).__name__
    assert loaded.broken[0].problems == (
        f"{folder}/attack.yaml: cannot be loaded (unexpected {kind}); report this as a bug",
    )


def test_a_lack_of_memory_is_not_blamed_on_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(tenants, "read_text_file", fail)
    with pytest.raises(MemoryError):
        load_tenants(folder)


@pytest.mark.parametrize("name", ["pipe", "socket", "device", "terminal", "loop of links", "too large"])
def test_a_secret_in_a_special_file_is_an_error_at_once(folder: Path, name: str) -> None:
    content = attacks.TENANT.format(id="attack").replace("{env: META_TOKEN}", "{file: ./key}")
    (folder / "attack.yaml").write_text(content)
    attacks.FILES[name](folder / "key")
    [tenant] = (tenant for tenant in load_tenants(folder).tenants if tenant.tenant_id == "attack")
    assert tenant.meta
    with pytest.raises(MissingSecretError, match=r"the file .*/key (is|cannot) "):
        tenant.meta.access_token.resolve({})
