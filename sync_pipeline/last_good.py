"""The last good version of every tenant: what stays in use while the tenant's file is broken.

Each time tenants are read for Dagster, a valid file that is new or has changed is kept under `SYNC_PIPELINE_HOME`, with
its product costs. A file names its secrets and never holds them, so neither does a copy.

    last_good/<folder of tenants>/<tenant>/<version>/<file>.yaml, product_costs.csv

A version appears under its name whole, by a rename, and is never changed. Any number of processes may read and keep.
"""

import hashlib
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml

from sync_pipeline.files import FileReadError, read_regular_file, shown_path
from sync_pipeline.rows.costs import MAX_FILE_BYTES, ProductCostError, load_product_costs
from sync_pipeline.tenants import BrokenTenantFile, Tenant, TenantFolder, TenantFolderError, load_tenants, unexpected

WATCHED = {".yaml", ".yml", ".csv"}
LEFT_OUT = "its tenant is left out"
COSTS = "product_costs.csv"
# That of libyaml takes a tenth of the time, of which the first look at a thousand tenants has seconds.
DUMPER: type[yaml.SafeDumper] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
# A run that began with the version before this one may still read its product costs.
VERSIONS_KEPT = 2

Fingerprint = Mapping[str, tuple[int, int]]

_logger = logging.getLogger("dagster.sync_pipeline")


@dataclass(frozen=True)
class SetAside:
    """A file that cannot be used, and what that means for its tenant."""

    file: BrokenTenantFile
    consequence: str
    left_out: bool = False

    @property
    def sentences(self) -> tuple[str, ...]:
        """Every problem of the file, each with what it means."""
        return tuple(f"{problem} ({self.consequence})" for problem in self.file.problems)


@dataclass(frozen=True)
class TenantsInUse:
    """The tenants that Dagster is to know, some perhaps in their last good version, and the files set aside."""

    tenants: tuple[Tenant, ...]
    set_aside: tuple[SetAside, ...]


def fingerprint(folder: Path) -> Fingerprint:
    """Return what changes when a file of the folder is edited, added or removed; empty if there is no folder."""
    found: dict[str, tuple[int, int]] = {}
    try:
        files = [file for file in folder.iterdir() if file.suffix.lower() in WATCHED and not file.name.startswith(".")]
    except OSError:
        return found
    for file in files:
        try:
            status = file.stat()
            found[file.name] = (status.st_mtime_ns, status.st_size) if stat.S_ISREG(status.st_mode) else (0, 0)
        except OSError:
            # A link to nowhere, which is a problem of its own until it is removed, or a file that was just removed.
            if file.is_symlink():
                found[file.name] = (0, 0)
    return found


def unchanged_files(before: Fingerprint, now: Fingerprint) -> set[str]:
    """Return the names of the files that two fingerprints of a folder have in common."""
    return {name for name, status in now.items() if before.get(name) == status}


def load_tenants_in_use(folder: Path, home: Path, only: Collection[str] | None = None) -> TenantsInUse:
    """Read a folder of tenants, or of it `only` these; a broken file is stood in for by its last good version.

    A tenant without one is left out, as by `load_tenants`; a tenant without a file is gone, and its versions with it.
    A broken product cost file counts as a broken tenant file, except that a tenant without a good version stays, and
    the runs that need its costs fail. Raises `TenantFolderError`.
    """
    versions = _Versions(home / "last_good" / hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:12])
    before = fingerprint(folder)
    found = load_tenants(folder, only)
    costs_of = {t.tenant_id: _broken_costs(versions, t, found.files[t.tenant_id]) for t in found.tenants}

    tenants = [tenant for tenant in found.tenants if not costs_of[tenant.tenant_id]]
    set_aside: list[SetAside] = []
    # Before those of broken tenant files: their ids are certain.
    for tenant in found.tenants:
        if broken := costs_of[tenant.tenant_id]:
            version = versions.latest(tenant.tenant_id)
            tenants.append(version.tenant if version else tenant)
            consequence = _in_use(version) if version else f"runs of {tenant.tenant_id} that need its costs fail"
            set_aside.append(SetAside(broken, consequence))
    for broken in found.broken:
        version = versions.of_broken_file(broken)
        if version and _fits(version.tenant, tenants):
            tenants.append(version.tenant)
            set_aside.append(SetAside(broken, _in_use(version)))
        else:
            set_aside.append(SetAside(broken, LEFT_OUT, left_out=True))

    with _not_required(versions.root):
        # A file that changed in the meantime is read again: this version of it may overwrite a later one.
        now = fingerprint(folder)
        _keep(versions, found, costs_of, unchanged_files(before, now))
        if only is None and before.keys() == now.keys():
            _forget(versions, found, [tenant.tenant_id for tenant in tenants])
    tenants.sort(key=lambda tenant: tenant.tenant_id)
    return TenantsInUse(tuple(tenants), tuple(set_aside))


def _broken_costs(versions: "_Versions", tenant: Tenant, file: Path) -> BrokenTenantFile | None:
    # What is kept was valid: only new costs are parsed, because every run reads all tenants.
    if tenant.product_costs is None:
        return None
    costs = tenant.product_costs
    try:
        if not versions.has(tenant, file):
            load_product_costs(costs)
    except ProductCostError as error:
        problems = tuple(f"{shown_path(error.file)}: {problem}" for problem in error.problems)
        return BrokenTenantFile(error.file, tenant.tenant_id, problems)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 (one file must not stop the others)
        return BrokenTenantFile(costs, tenant.tenant_id, (f"{shown_path(costs)}: {unexpected(error)}",))
    return None


def _fits(tenant: Tenant, others: Collection[Tenant]) -> bool:
    jobs = {job for other in others for job in _jobs(other)}
    return tenant.tenant_id not in {other.tenant_id for other in others} and jobs.isdisjoint(_jobs(tenant))


def _jobs(tenant: Tenant) -> set[str]:
    return {f"{tenant.tenant_id}__{workflow.name}" for workflow in tenant.workflows}


def _in_use(version: "_Version") -> str:
    return f"the last good version of {version.tenant.tenant_id}, from {version.since:%Y-%m-%d %H:%M} UTC, is in use"


def _keep(
    versions: "_Versions",
    found: TenantFolder,
    costs_of: Mapping[str, BrokenTenantFile | None],
    unchanged: Collection[str],
) -> None:
    for tenant in found.tenants:
        file = found.files[tenant.tenant_id]
        changed = file.name not in unchanged or (
            tenant.product_costs is not None
            and tenant.product_costs.parent == file.parent
            and tenant.product_costs.name not in unchanged
        )
        if not changed and not costs_of[tenant.tenant_id]:
            with _not_required(versions.root / tenant.tenant_id):
                versions.keep(tenant, file)


def _forget(versions: "_Versions", found: TenantFolder, in_use: Collection[str]) -> None:
    named = {broken.tenant_id for broken in found.broken}
    for tenant_id in versions.tenant_ids():
        if tenant_id not in in_use and tenant_id not in named:
            versions.forget(tenant_id)


@contextmanager
def _not_required(place: Path) -> Iterator[None]:
    """Turn an error into a warning: without a kept version the tenants still load."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 (one tenant must not stop the others)
        why = error.strerror if isinstance(error, OSError) else type(error).__name__
        _logger.warning("good versions of tenant files cannot be kept in %s: %s", shown_path(place), why)


@dataclass(frozen=True)
class _Version:
    tenant: Tenant
    since: datetime


class _Versions:
    """The versions kept of the tenants of one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def has(self, tenant: Tenant, file: Path) -> bool:
        """Whether this very version, product costs included, is kept."""
        return (self.root / tenant.tenant_id / _digest(tenant, file)).is_dir()

    def latest(self, tenant_id: str) -> _Version | None:
        """The latest version that is still valid; what is valid may change with the package."""
        for folder in self._folders(tenant_id):
            try:
                tenants = load_tenants(folder).tenants
                since = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
            except (TenantFolderError, OSError):
                continue
            if len(tenants) == 1 and tenants[0].tenant_id == tenant_id:
                return _Version(tenants[0], since)
        return None

    def of_broken_file(self, broken: BrokenTenantFile) -> _Version | None:
        """The last good version of that file, whoever it names now, or else of the tenant it seems to name."""
        for tenant_id in self.tenant_ids():
            folders = self._folders(tenant_id)
            if folders and (folders[0] / broken.file.name).is_file():
                return self.latest(tenant_id)
        return self.latest(broken.tenant_id) if broken.tenant_id else None

    def tenant_ids(self) -> list[str]:
        """Every tenant of which a version is kept."""
        try:
            return sorted(folder.name for folder in self.root.iterdir() if folder.is_dir())
        except OSError:
            return []

    def keep(self, tenant: Tenant, file: Path) -> None:
        """Make this version the latest, unless it is; older ones go."""
        home = self.root / tenant.tenant_id
        target = home / _digest(tenant, file)
        if target.is_dir():
            if self._folders(tenant.tenant_id)[0] != target:
                os.utime(target)
            return
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=home, ignore_cleanup_errors=True) as workshop:
            staged = Path(workshop) / target.name
            staged.mkdir()
            (staged / file.name).write_bytes(_text(tenant))
            if tenant.product_costs:
                (staged / COSTS).write_bytes(_costs(tenant))
            try:
                staged.rename(target)
            except OSError:
                # Another process has kept the same version in this moment.
                if not target.is_dir():
                    raise
        for folder in self._folders(tenant.tenant_id)[VERSIONS_KEPT:]:
            shutil.rmtree(folder, ignore_errors=True)

    def forget(self, tenant_id: str) -> None:
        """Remove every version of a tenant."""
        shutil.rmtree(self.root / tenant_id, ignore_errors=True)

    def _folders(self, tenant_id: str) -> list[Path]:
        """The folders of a tenant's versions, the latest first."""
        found: list[tuple[int, Path]] = []
        try:
            folders = [folder for folder in (self.root / tenant_id).iterdir() if not folder.name.startswith(".")]
        except OSError:
            return []
        for folder in folders:
            try:
                found.append((folder.stat().st_mtime_ns, folder))
            except OSError:  # removed since it was listed
                continue
        return [folder for _, folder in sorted(found, reverse=True)]


def _digest(tenant: Tenant, file: Path) -> str:
    parts = (file.name.encode(), tenant.model_dump_json(by_alias=True, exclude_unset=True).encode(), _costs(tenant))
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _text(tenant: Tenant) -> bytes:
    """The tenant as a tenant file; what its own file leaves unsaid stays unsaid."""
    said = tenant.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if tenant.product_costs:
        said["product_costs"] = COSTS
    return yaml.dump(said, Dumper=DUMPER, sort_keys=False, allow_unicode=True).encode()


def _costs(tenant: Tenant) -> bytes:
    try:
        return read_regular_file(tenant.product_costs, MAX_FILE_BYTES) if tenant.product_costs else b""
    except FileReadError:  # parsing it says why
        return b""
