"""Whoever may launch a run cannot redirect it, nor read the environment, by its configuration."""

import json
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

import dagster as dg
import pytest
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster_graphql.test.utils import execute_dagster_graphql

from sync_pipeline.automation.jobs import range_tags
from sync_pipeline.date_ranges import DayRange
from sync_pipeline.run_config import LOG_LEVELS, StoredValueError, no_stored_values
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline_tests.pipeline import Pipeline, copied_demo_tenants

MARKER = "MARKER-7d2f-environment"
JOB = "lumina__daily_sync"
ASSET_JOB = "__ASSET_JOB"
DAY = date(2026, 10, 5)
FROM_ENVIRONMENT = {"env": "MARKED_VARIABLE"}
SCHEMA = """query ($selector: PipelineSelector!) {
  runConfigSchemaOrError(selector: $selector) {
    __typename
    ... on RunConfigSchema {
      rootConfigType { key }
      allConfigTypes {
        __typename key typeParamKeys
        ... on CompositeConfigType { fields { name configTypeKey } }
        ... on ScalarUnionConfigType { scalarTypeKey nonScalarTypeKey }
        ... on EnumConfigType { values { value } }
      }
    }
  }
}"""
LAUNCH = """mutation ($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on PythonError { message }
  }
}"""
ASSETS = """{
  assetNodes {
    assetKey { path } jobNames
    assetChecksOrError { ... on AssetChecks { checks { name } } }
  }
}"""
# Every place of a run's configuration that has, or had, a field.
REFUSED: list[Mapping[str, Any]] = [
    {"resources": {"meta_graph": {"config": {"graph_url": "http://127.0.0.1:1"}}}},
    {"resources": {"meta_graph": {"config": {"graph_url": FROM_ENVIRONMENT}}}},
    {"resources": {"pancake_pos": {"config": {"api_url": "http://169.254.169.254/latest/meta-data"}}}},
    {"resources": {"warehouse": {"config": {"database_url": FROM_ENVIRONMENT}}}},
    {"resources": {"io_manager": {"config": {"base_dir": FROM_ENVIRONMENT}}}},
    {"resources": {"io_manager": {"config": FROM_ENVIRONMENT}}},
    {"ops": {"lumina__sync": {"config": FROM_ENVIRONMENT}}},
    {"ops": {"lumina__meta_ad_accounts": {"config": {"since": FROM_ENVIRONMENT}}}},
    {"ops": {"lumina__meta_ad_accounts": {"config": FROM_ENVIRONMENT}}},
    {"ops": {"lumina__checks": {"config": FROM_ENVIRONMENT}}},
    {"execution": {"config": {"marker_to_close": "anything"}}},
    {"execution": {"config": {"marker_to_close": FROM_ENVIRONMENT}}},
    {"loggers": {"console": {"config": {"log_level": FROM_ENVIRONMENT}}}},
    {"loggers": {"console": {"config": {"log_level": "LOUD"}}}},
    {"loggers": {"console": {"config": {"name": FROM_ENVIRONMENT}}}},
]


class Location:
    """A loaded code location, asked over GraphQL as the webserver asks it."""

    def __init__(self, context: WorkspaceProcessContext, instance: dg.DagsterInstance) -> None:
        self._context = context
        self.instance = instance

    def ask(self, document: str, **variables: Any) -> Any:
        return execute_dagster_graphql(self._context.create_request_context(), document, variables).data

    def schema(self, job: str, **selected: Any) -> Any:
        selector = {**SELECTOR, "pipelineName": job, **selected}
        found = self.ask(SCHEMA, selector=selector)["runConfigSchemaOrError"]
        assert found["__typename"] == "RunConfigSchema", found
        return found

    def launch(self, job: str, config: Mapping[str, Any], **selected: Any) -> Any:
        selector = {**SELECTOR, "pipelineName": job, **selected}
        params = {"selector": selector, "mode": "default", "runConfigData": json.dumps(config)}
        return self.ask(LAUNCH, params=params)["launchRun"]


SELECTOR = {"repositoryLocationName": "sync_pipeline", "repositoryName": "__repository__"}


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Location]:
    folder = tmp_path_factory.mktemp("location")
    target = ModuleTarget("sync_pipeline.definitions", "defs", str(folder), "sync_pipeline")
    with (
        pytest.MonkeyPatch.context() as patch,
        dg.instance_for_test(temp_dir=str(folder)) as instance,
    ):
        patch.setenv("MARKED_VARIABLE", MARKER)
        patch.setenv("SYNC_PIPELINE_HOME", str(folder / "home"))
        patch.setenv("SYNC_PIPELINE_TENANTS", str(copied_demo_tenants(folder / "tenants")))
        with WorkspaceProcessContext(instance, target) as context:
            yield Location(context, instance)


def reachable(schema: Any) -> dict[str, Any]:
    """The config types that a run's configuration can reach, by key."""
    types = {one["key"]: one for one in schema["allConfigTypes"]}
    found: dict[str, Any] = {}
    open_keys = [schema["rootConfigType"]["key"]]
    while open_keys:
        key = open_keys.pop()
        if key not in found:
            found[key] = one = types[key]
            open_keys += [field["configTypeKey"] for field in one.get("fields") or ()]
            open_keys += one["typeParamKeys"] or ()
            open_keys += [one[name] for name in ("scalarTypeKey", "nonScalarTypeKey") if one.get(name)]
    return found


def assert_nothing_but_shapes(schema: Any) -> None:
    for key, one in reachable(schema).items():
        names = {field["name"] for field in one.get("fields") or ()}
        assert "env" not in names, key
        assert "Source" not in key
        # A scalar, a union or `Any` would be a field that takes a value.
        assert one["__typename"] in {"CompositeConfigType", "EnumConfigType"}, one
        if one["__typename"] == "EnumConfigType":
            assert {value["value"] for value in one["values"]} == set(LOG_LEVELS)


def test_no_job_has_a_field_for_a_value(location: Location) -> None:
    nodes = location.ask(ASSETS)["assetNodes"]
    jobs = {job for node in nodes for job in node["jobNames"]}
    assert jobs >= {ASSET_JOB, JOB, "lumina__meta_only", "mekong__daily_sync"}
    for job in jobs:
        assert_nothing_but_shapes(location.schema(job))


def test_no_run_of_an_asset_or_check_has_a_field(location: Location) -> None:
    nodes = location.ask(ASSETS)["assetNodes"]
    assert len(nodes) >= 12
    for node in nodes:
        key = {"path": node["assetKey"]["path"]}
        assert_nothing_but_shapes(location.schema(ASSET_JOB, assetSelection=[key], assetCheckSelection=[]))
        checks = [
            {"assetKey": key, "name": check["name"]} for check in (node["assetChecksOrError"] or {}).get("checks", ())
        ]
        if checks:
            assert_nothing_but_shapes(location.schema(ASSET_JOB, assetSelection=[], assetCheckSelection=checks))


def test_no_job_in_process_has_a_source_in_its_schema(pipeline: Pipeline) -> None:
    for job in pipeline.definitions.get_repository_def().get_all_jobs():
        snapshot = job.get_config_schema_snapshot()
        for key in snapshot.all_config_keys:
            found = snapshot.get_config_snap(key)
            assert "Source" not in key
            assert "env" not in {field.name for field in found.fields or ()}, (job.name, key)


@pytest.mark.parametrize("config", REFUSED, ids=str)
def test_a_launch_with_configuration_is_refused(location: Location, config: Mapping[str, Any]) -> None:
    launched = location.launch(JOB, config)
    assert launched["__typename"] == "RunConfigValidationInvalid", launched
    of_assets = [{"path": ["lumina", name]} for name in ("meta_ad_accounts", "meta_ad_insights")]
    if "lumina__checks" not in config.get("ops", {}):
        launched = location.launch(ASSET_JOB, config, assetSelection=of_assets)
        assert launched["__typename"] == "RunConfigValidationInvalid", launched
    assert MARKER not in json.dumps(launched)
    assert location.instance.get_run_records() == []


def test_a_run_sends_no_token_elsewhere(pipeline: Pipeline) -> None:
    with SandboxServer(ads=1, orders=1) as elsewhere:
        url = elsewhere.environment["META_GRAPH_URL"]
        config = {"resources": {"meta_graph": {"config": {"graph_url": url}}}}
        job = pipeline.definitions.resolve_job_def(JOB)
        with pytest.raises(dg.DagsterInvalidConfigError) as refused:
            job.execute_in_process(instance=pipeline.instance, run_config=config, tags=range_tags(DayRange(DAY, DAY)))
        assert elsewhere.requests.all() == []
    assert url not in str(refused.value)


def test_what_a_permissive_shape_takes_is_not_resolved(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The job of all assets ignores ops and resources that the selected assets do not have."""
    monkeypatch.setenv("MARKED_VARIABLE", MARKER)
    config = {
        "ops": {"elsewhere": {"config": {"url": FROM_ENVIRONMENT}}, "mekong__sync": {"config": {}}},
        "resources": {"elsewhere": {"config": FROM_ENVIRONMENT}},
    }
    job = pipeline.definitions.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=pipeline.instance, run_config=config, asset_selection=[dg.AssetKey(["lumina", "meta_ad_accounts"])]
    )
    assert result.success
    events = [entry.to_json() for entry in pipeline.instance.all_logs(result.run_id)]
    run = pipeline.instance.get_run_by_id(result.run_id)
    captured = capfd.readouterr()
    assert MARKER not in "\n".join([*events, repr(run), captured.out, captured.err])


def test_the_level_of_the_console_can_be_set(pipeline: Pipeline, capfd: pytest.CaptureFixture[str]) -> None:
    job = pipeline.definitions.resolve_job_def("lumina__meta_only")
    config = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    tags = range_tags(DayRange(DAY, DAY))
    assert job.execute_in_process(instance=pipeline.instance, run_config=config, tags=tags).success
    assert "STEP_SUCCESS" not in capfd.readouterr().err
    assert job.execute_in_process(instance=pipeline.instance, tags=tags).success
    assert "STEP_SUCCESS" in capfd.readouterr().err


def test_a_value_that_an_asset_returns_is_refused() -> None:
    @dg.asset(config_schema={})
    def rows() -> list[int]:
        return [1]

    result = dg.materialize([rows], resources={"io_manager": no_stored_values}, raise_on_error=False)
    [failure] = [event for event in result.all_events if event.is_step_failure]
    error = failure.step_failure_data.error
    assert error is not None
    assert error.cause is not None
    assert error.cause.cls_name == StoredValueError.__name__
    assert error.cause.message.startswith("sync_pipeline.run_config.StoredValueError: rows exchanges a value")
