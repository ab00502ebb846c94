"""The code location that a schedule is switched in: that of Dagster's workspace, whatever its name is."""

import json
from pathlib import Path

import pytest
import yaml
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_representation.external import RemoteSchedule
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, ScheduleInstigatorData
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget

from sync_pipeline.cli.locations import AmbiguousLocationError, UnknownLocationError
from sync_pipeline.cli.workflows import switch
from sync_pipeline.dagster_internals.workspace import locations_in_file
from sync_pipeline.files import FileReadError
from sync_pipeline.settings import LOCATION_VARIABLE, WORKSPACE_VARIABLE
from sync_pipeline.tenants import find_tenant, load_tenants
from sync_pipeline_tests.cli.installed import Installed

SCHEDULE = "lumina__daily_sync_schedule"


def workspace(folder: Path, *names: str) -> Path:
    module = {"module_name": "sync_pipeline.definitions"}
    file = folder / "workspace.yaml"
    file.write_text(yaml.safe_dump({"load_from": [{"python_module": {**module, "location_name": n}} for n in names]}))
    return file


@pytest.fixture
def kubernetes(installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    """An installation whose only code location has the name that Dagster's Helm chart gives it."""
    monkeypatch.setenv(WORKSPACE_VARIABLE, str(workspace(tmp_path, "sync-pipeline")))
    return installed


def as_the_daemon_sees_it(installed: Installed, file: Path, location: str) -> tuple[RemoteSchedule, bool]:
    """Load the workspace as daemon and webserver do; returns the schedule and whether it is on."""
    with WorkspaceProcessContext(installed.instance, WorkspaceFileTarget([str(file)])) as context:
        [repository] = context.create_request_context().get_code_location(location).get_repositories().values()
        schedule = repository.get_schedule(SCHEDULE)
        state = installed.instance.get_instigator_state(schedule.get_remote_origin_id(), schedule.selector_id)
        return schedule, schedule.get_current_instigator_state(state).is_running


def seen_by_the_daemon(installed: Installed, schedule: RemoteSchedule) -> None:
    """Store what the daemon does the first time it looks at a schedule that begins switched on."""
    state = InstigatorState(
        schedule.get_remote_origin(),
        InstigatorType.SCHEDULE,
        InstigatorStatus.DECLARED_IN_CODE,
        ScheduleInstigatorData(schedule.cron_schedule, start_timestamp=None),
    )
    installed.instance.add_instigator_state(state)


def test_a_schedule_is_switched_in_a_location_of_another_name(kubernetes: Installed, tmp_path: Path) -> None:
    file = tmp_path / "workspace.yaml"
    for command, on in (("disable", False), ("enable", True)):
        result = kubernetes.command("workflows", command, "lumina", "daily_sync")
        assert result.exit_code == 0, result.output
        assert "[code location sync-pipeline]" in result.stdout
        assert as_the_daemon_sees_it(kubernetes, file, "sync-pipeline")[1] is on


def test_the_location_is_shown(kubernetes: Installed) -> None:
    [_, *lines] = kubernetes.command("workflows").stdout.splitlines()
    assert {line.split()[-1] for line in lines} == {"sync-pipeline"}
    assert "location     sync-pipeline" in kubernetes.command("workflows", "show", "lumina", "daily_sync").stdout
    [header, *lines] = kubernetes.command("status").stdout.splitlines()
    column = header.index("LOCATION")
    assert {line[column:].split()[0] for line in lines} == {"sync-pipeline"}


def test_without_a_workspace_file_dagsters_database_tells(installed: Installed, tmp_path: Path) -> None:
    schedule, _ = as_the_daemon_sees_it(installed, workspace(tmp_path, "sync-pipeline"), "sync-pipeline")
    seen_by_the_daemon(installed, schedule)
    result = installed.command("workflows", "disable", "lumina", "daily_sync")
    assert "the schedule is off [code location sync-pipeline]" in result.stdout
    assert as_the_daemon_sees_it(installed, tmp_path / "workspace.yaml", "sync-pipeline")[1] is False


def test_an_unknown_location_is_refused(kubernetes: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    result = kubernetes.command("workflows", "disable", "lumina", "daily_sync", "--location", "sync_pipeline")
    assert isinstance(result.exception, UnknownLocationError)
    assert "there is no code location 'sync_pipeline'" in str(result.exception)
    assert "there are sync-pipeline." in str(result.exception)
    monkeypatch.setenv(LOCATION_VARIABLE, "south")
    for command in (("workflows",), ("status",), ("workflows", "enable", "lumina", "daily_sync")):
        assert isinstance(kubernetes.command(*command).exception, UnknownLocationError)
    assert kubernetes.instance.all_instigator_state() == []


def test_of_several_locations_one_has_to_be_named(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = workspace(tmp_path, "north", "south")
    monkeypatch.setenv(WORKSPACE_VARIABLE, str(file))
    refused = installed.command("workflows", "disable", "lumina", "daily_sync")
    assert isinstance(refused.exception, AmbiguousLocationError)
    assert refused.exception.candidates == ("north", "south")
    assert LOCATION_VARIABLE in str(refused.exception)
    assert installed.instance.all_instigator_state() == []
    assert json_locations(installed) == {None}
    monkeypatch.setenv(LOCATION_VARIABLE, "south")
    assert installed.command("workflows", "disable", "lumina", "daily_sync").exit_code == 0
    assert as_the_daemon_sees_it(installed, file, "south")[1] is False
    assert as_the_daemon_sees_it(installed, file, "north")[1] is True


def test_each_of_several_locations_is_listed(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WORKSPACE_VARIABLE, str(workspace(tmp_path, "north", "south")))
    assert installed.command("workflows", "disable", "lumina", "daily_sync", "--location", "south").exit_code == 0
    # A schedule of lumina is stored in the south now, and none of mekong anywhere.
    result = installed.command("workflows")
    assert result.exit_code == 0
    found = [(line.split()[0], line.split()[1], *line.split()[-2:]) for line in result.stdout.splitlines()[1:]]
    assert {where for tenant, _, _, where in found if tenant == "lumina"} == {"south"}
    assert ("lumina", "daily_sync", "off", "south") in found
    assert {one for one in found if one[:2] == ("mekong", "daily_sync")} == {
        ("mekong", "daily_sync", "on", "north"),
        ("mekong", "daily_sync", "on", "south"),
    }
    assert result.stderr == (
        "warning: it is not known which of the code locations north, south has mekong, so every one is listed; name "
        f"the one that loads this folder of tenants in {LOCATION_VARIABLE}\n"
    )
    shown = installed.command("workflows", "show", "mekong", "daily_sync")
    assert [line.split()[-1] for line in shown.stdout.splitlines() if line.startswith("location ")] == [
        "north",
        "south",
    ]
    assert "which of the code locations north, south has mekong" in shown.stderr
    assert installed.command("workflows", "lumina").stderr == ""


def test_a_stale_switch_of_a_removed_location_hides_nothing(kubernetes: Installed, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    location = locations_in_file(workspace(old, "sync_pipeline"))["sync_pipeline"]
    tenant = find_tenant(load_tenants(tmp_path / "tenants"), "lumina")
    for name in ("daily_sync", "weekly_resync"):
        switch(tenant, tenant.workflow(name), kubernetes.instance, location, on=False)
    assert {one["state"] for one in json.loads(kubernetes.command("status", "lumina", "--json").stdout)} == {"late"}
    listed = kubernetes.command("workflows", "lumina").stdout
    assert [line.split()[-2] for line in listed.splitlines() if "daily_sync" in line] == ["on"]
    for name in ("daily_sync", "weekly_resync"):
        assert kubernetes.command("workflows", "disable", "lumina", name).exit_code == 0
    found = json.loads(kubernetes.command("status", "lumina", "--json").stdout)
    assert {one["state"] for one in found} == {"unscheduled"}


@pytest.mark.parametrize("text", ["load_from: [nonsense: {}]", "load_from: [", "", "- x", "load_from: 3"])
def test_a_broken_workspace_file_is_named(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    monkeypatch.setenv(WORKSPACE_VARIABLE, str(file))
    error = installed.command("workflows").exception
    assert isinstance(error, FileReadError)
    assert str(error) == f"{file} is not a workspace file that Dagster accepts"


def test_a_workspace_file_without_locations_is_named(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WORKSPACE_VARIABLE, str(workspace(tmp_path)))
    assert str(installed.command("workflows").exception) == f"{tmp_path}/workspace.yaml names no code location"


def test_a_missing_workspace_file_is_named(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WORKSPACE_VARIABLE, str(tmp_path / "none.yaml"))
    assert "none.yaml" in str(installed.command("workflows").exception)


def json_locations(installed: Installed) -> set[str | None]:
    return {one["location"] for one in json.loads(installed.command("status", "--json").stdout)}
