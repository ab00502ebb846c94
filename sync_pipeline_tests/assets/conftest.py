"""Three days synced once for a module; each of its tests gets a copy of its own to damage."""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import NamedTuple

import dagster as dg
import pytest
from sqlalchemy.engine import URL

from sync_pipeline.automation.jobs import range_tags
from sync_pipeline.date_ranges import DayRange
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline.warehouse import database
from sync_pipeline_tests import templates
from sync_pipeline_tests.pipeline import Pipeline, all_seeing, copied_demo_tenants, rendered
from sync_pipeline_tests.sandboxes import demanding

SYNC_JOB = "lumina__daily_sync"
DAYS = DayRange(date(2026, 10, 5), date(2026, 10, 7))
TODAY = date(2026, 10, 20)

# Of these the demo's own file leaves out the cost on purpose.
COSTS_OF_THE_REST = ",LUM-SOA,soap,26.00,2026-10-01,\n,LUM-LIP,liptint,45.00,,\n"

_numbers = itertools.count(1)


class CheckFound(NamedTuple):
    """One evaluation of a check, as Dagster stored it."""

    passed: bool
    warns_only: bool
    sentence: str
    figures: dict[str, object]


Found = dict[tuple[str, str | None], CheckFound]


@dataclass
class Synced(Pipeline):
    """A pipeline with three synced days, whose checks can be made again alone."""

    def checked(self, days: DayRange | None = DAYS) -> Found:
        """What lumina's checks find now; without days as when they are started by hand."""
        job = self.definitions.resolve_implicit_global_asset_job_def()
        keys = {key for key in job.asset_layer.asset_graph.asset_check_keys if key.asset_key.path[0] == "lumina"}
        result = job.get_subset(asset_check_selection=keys).execute_in_process(
            instance=self.instance, tags=range_tags(days) if days else {}, raise_on_error=False
        )
        assert result.success
        assert list(result.get_asset_materialization_events()) == []
        return self.evaluations(result)

    def evaluations(self, result: dg.ExecuteInProcessResult) -> Found:
        """What a run's checks found; of those judged more than once what came last."""
        return dict(self.judgements(result))

    def judgements(self, result: dg.ExecuteInProcessResult) -> list[tuple[tuple[str, str | None], CheckFound]]:
        """All that a run's checks said, in order, but for `up_to_date`, which goes by the clock."""
        found = []
        for entry in self.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION):
            assert entry.dagster_event is not None
            one = entry.dagster_event.asset_check_evaluation_data
            if one.check_name != "up_to_date":
                figures: dict[str, object] = {name: value.value for name, value in one.metadata.items()}
                warns_only = one.severity == dg.AssetCheckSeverity.WARN
                said = CheckFound(one.passed, warns_only, rendered(one.description), figures)
                found.append(((one.check_name, one.partition), said))
        return found

    def failed(self) -> Found:
        """Those that now fail."""
        return {key: found for key, found in self.checked().items() if not found.passed}

    def materialize(self, *assets: str) -> dg.ExecuteInProcessResult:
        """Materialize assets (`tenant/name`) without partitions, as the UI's button does."""
        keys = {dg.AssetKey(name.split("/")) for name in assets}
        job = self.definitions.resolve_implicit_global_asset_job_def().get_subset(asset_selection=keys)
        return job.execute_in_process(instance=self.instance, raise_on_error=False)

    @property
    def costs_file(self) -> Path:
        """Lumina's product costs, free to be edited."""
        return self.tenants / "lumina_costs.csv"

    def edit_tenant(self, *lines: str) -> None:
        """Add lines to lumina's file and read it again."""
        self._write_tenant(self._tenant_file.read_text() + "\n".join(lines) + "\n")

    def replace_in_tenant(self, before: str, after: str) -> None:
        """Change a piece of lumina's file and read it again."""
        text = self._tenant_file.read_text()
        assert text.count(before) == 1
        self._write_tenant(text.replace(before, after))

    @property
    def _tenant_file(self) -> Path:
        return self.tenants / "lumina.yaml"

    def _write_tenant(self, text: str) -> None:
        self._tenant_file.write_text(text)
        self.reload()


class _Once(NamedTuple):
    sandbox: SandboxServer
    database: URL
    run: dg.ExecuteInProcessResult
    instance: dg.DagsterInstance


def _complete_costs(tenants: Path) -> None:
    file = tenants / "lumina_costs.csv"
    file.write_text(file.read_text() + COSTS_OF_THE_REST)


@pytest.fixture(scope="module")
def _synced_once(server: URL, dagster_database: URL, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Once]:
    folder = tmp_path_factory.mktemp("synced")
    url = server.set(database=f"synced_{os.getpid()}_{next(_numbers)}")
    templates.copy(server, url)
    now = datetime(2026, 10, 20, 7, 0, tzinfo=UTC)
    with (
        SandboxServer(ads=12, orders=20, now=lambda: now, behaviour=demanding()) as sandbox,
        pytest.MonkeyPatch.context() as patch,
        templates.dagster_instance(dagster_database, folder) as instance,
    ):
        _complete_costs(copied_demo_tenants(folder / "tenants"))
        _point_to(patch, sandbox, url, folder)
        patch.setattr("sync_pipeline.assets.checks.today_in", lambda _: TODAY)
        engine = database.connect(all_seeing(url))
        run = Pipeline(sandbox, engine, instance, folder / "tenants").run(SYNC_JOB, DAYS.since, DAYS.until)
        engine.dispose()
        assert run.success
        yield _Once(sandbox, url, run, instance)
    templates.drop(url)


@pytest.fixture
def sync_run(_synced_once: _Once) -> dg.ExecuteInProcessResult:
    """The run that synced the three days."""
    return _synced_once.run


@pytest.fixture
def synced(_synced_once: _Once, server: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Synced]:
    """The three days in a warehouse and with tenant files of this test's own, as of 20 October 2026."""
    url = server.set(database=f"synced_{os.getpid()}_{next(_numbers)}")
    templates.copy(_synced_once.database, url)
    _complete_costs(copied_demo_tenants(tmp_path / "tenants"))
    _point_to(monkeypatch, _synced_once.sandbox, url, tmp_path)
    monkeypatch.setattr("sync_pipeline.assets.checks.today_in", lambda _: TODAY)
    engine = database.connect(all_seeing(url))
    _synced_once.sandbox.requests.clear()
    yield Synced(_synced_once.sandbox, engine, _synced_once.instance, tmp_path / "tenants")
    engine.dispose()
    templates.drop(url)


def _point_to(patch: pytest.MonkeyPatch, sandbox: SandboxServer, url: URL, folder: Path) -> None:
    for variable, value in sandbox.environment.items():
        patch.setenv(variable, value)
    patch.setenv("SYNC_PIPELINE_DATABASE_URL", url.render_as_string(hide_password=False))
    patch.setenv("SYNC_PIPELINE_HOME", str(folder / "home"))
    patch.setenv("SYNC_PIPELINE_TENANTS", str(folder / "tenants"))
