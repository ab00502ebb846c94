"""Tags and run config that a launcher may launch with, by every way to pass them."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from dagster._core.execution.backfill import BulkActionStatus
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.webserver import audit
from sync_pipeline.webserver.launch_rules import MAX_NODES, Launch, read_fields
from sync_pipeline_tests.webserver.running import LOCATION, Running

POD = "dagster-k8s/config"
POD_SPEC = json.dumps({"container_config": {"image": "attacker/image"}})
ELSEWHERE = {"resources": {"api": {"config": {"url": "http://elsewhere.test/marker"}}}}
ELSEWHERE_YAML = "resources:\n  api:\n    config:\n      url: http://elsewhere.test/marker\n"
SELECTOR = {**LOCATION, "jobName": "acme__daily"}
DAY = [{"key": "dagster/partition", "value": "2026-10-05"}]
RAN = "{ __typename ... on LaunchRunSuccess { run { id } } ... on PythonError { message } }"
RUN = f"mutation ($p: ExecutionParams!) {{ launchRun(executionParams: $p) {RAN} }}"
LITERAL_SELECTOR = (
    '{ repositoryLocationName: "location.py", repositoryName: "__repository__",'
    ' jobName: "acme__daily", assetSelection: [] }'
)
ASSETS = [{"path": ["orders"]}]
BACKFILLED = "{ __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } }"
BACKFILL = f"mutation ($b: LaunchBackfillParams!) {{ launchPartitionBackfill(backfillParams: $b) {BACKFILLED} }}"


def execution(tags: list[dict[str, str]] | None = None, config: object = None, **more: Any) -> dict[str, Any]:
    params = {"selector": SELECTOR, "mode": "default", "executionMetadata": {"tags": [*DAY, *(tags or [])]}, **more}
    return params if config is None else {**params, "runConfigData": config}


def pod() -> list[dict[str, str]]:
    return [{"key": POD, "value": POD_SPEC}]


def ways_to_pass_tags() -> dict[str, tuple[str, dict[str, Any]]]:
    """Documents and variables that launch a run with a pod's specification in a tag."""
    literal = f'[{{ key: "dagster/partition", value: "2026-10-05" }}, {{ key: "{POD}", value: "{{}}" }}]'
    params = f"{{ selector: {LITERAL_SELECTOR}, executionMetadata: {{ tags: {literal} }} }}"
    single = f'{{ key: "{POD}", value: "{{}}" }}'
    return {
        "variables": (RUN, {"p": execution(pod())}),
        "literals": (f"mutation {{ launchRun(executionParams: {params}) {RAN} }}", {}),
        "a default of a variable": (
            f"mutation ($p: ExecutionParams = {params}) {{ launchRun(executionParams: $p) {RAN} }}",
            {},
        ),
        "a key in a variable": (
            f"mutation ($k: String!) {{ launchRun(executionParams: {params.replace(json.dumps(POD), '$k')}) {RAN} }}",
            {"k": POD},
        ),
        "an alias in a fragment": (
            f"mutation {{ ...f }} fragment f on Mutation {{ version: launchRun(executionParams: {params}) {RAN} }}",
            {},
        ),
        "one tag instead of a list": (
            f"mutation {{ launchRun(executionParams: {params.replace(literal, single)}) {RAN} }}",
            {},
        ),
        "the second of several runs": (
            "mutation ($l: [ExecutionParams!]!) { launchMultipleRuns(executionParamsList: $l) { __typename } }",
            {"l": [execution(), execution(pod())]},
        ),
        "the second of several mutations": (
            f"mutation ($a: ExecutionParams!, $b: ExecutionParams!) {{ a: launchRun(executionParams: $a) {RAN}"
            f" b: launchRun(executionParams: $b) {RAN} }}",
            {"a": execution(), "b": execution(pod())},
        ),
        "the older mutation": (RUN.replace("launchRun(", "launchPipelineExecution("), {"p": execution(pod())}),
        "a backfill of assets": (
            BACKFILL,
            {"b": {"assetSelection": ASSETS, "partitionNames": ["2026-10-05"], "tags": pod()}},
        ),
        "a backfill by asset": (
            BACKFILL,
            {"b": {"partitionsByAssets": [{"assetKey": ASSETS[0]}], "tags": pod()}},
        ),
    }


def ways_to_pass_run_config() -> dict[str, tuple[str, dict[str, Any]]]:
    """Documents and variables that launch a run with another address in its run config."""
    nested = '{ resources: { api: { config: { url: "http://elsewhere.test/marker" } } } }'
    literal = (
        f"{{ selector: {LITERAL_SELECTOR}, runConfigData: {nested},"
        ' executionMetadata: { tags: [{ key: "dagster/partition", value: "2026-10-05" }] } }'
    )
    text = literal.replace(nested, json.dumps(ELSEWHERE_YAML))
    return {
        "an object in variables": (RUN, {"p": execution(config=ELSEWHERE)}),
        "YAML in variables": (RUN, {"p": execution(config=ELSEWHERE_YAML)}),
        "JSON text in variables": (RUN, {"p": execution(config=json.dumps(ELSEWHERE))}),
        "an object in literals": (f"mutation {{ launchRun(executionParams: {literal}) {RAN} }}", {}),
        "YAML in literals": (f"mutation {{ launchRun(executionParams: {text}) {RAN} }}", {}),
        "YAML behind an alias": (RUN, {"p": execution(config="resources: {api: &a {config: {url: 'http://e'}}}\n")}),
        "an environment variable": (
            RUN,
            {"p": execution(config={"resources": {"api": {"config": {"url": {"env": "DAGSTER_POSTGRES_URL"}}}}})},
        ),
        "several runs": (
            "mutation ($l: [ExecutionParams!]!) { launchMultipleRuns(executionParamsList: $l) { __typename } }",
            {"l": [execution(), execution(config=ELSEWHERE)]},
        ),
        "a backfill": (
            BACKFILL,
            {"b": {"assetSelection": ASSETS, "partitionNames": ["2026-10-05"], "runConfigData": ELSEWHERE}},
        ),
        "a backfill, as YAML": (
            BACKFILL,
            {"b": {"assetSelection": ASSETS, "partitionNames": ["2026-10-05"], "runConfigData": ELSEWHERE_YAML}},
        ),
        "a re-execution": (
            RUN.replace("launchRun(", "launchRunReexecution("),
            {"p": execution(config=ELSEWHERE)},
        ),
    }


@pytest.fixture
def audited() -> Iterator[list[dict[str, Any]]]:
    """Audit lines, as they would be written."""
    lines: list[dict[str, Any]] = []

    class Collecting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(record.getMessage()))

    logger = logging.getLogger("sync_pipeline.audit")
    before = logger.handlers, logger.level
    audit.configure()
    logger.handlers = [Collecting()]
    yield lines
    logger.handlers, logger.level = before


def backfills(running: Running) -> int:
    return len(running.instance.get_backfills())


@pytest.mark.parametrize("way", ways_to_pass_tags())
def test_a_launcher_cannot_set_a_tag_of_a_run_launcher(way: str, running: Running) -> None:
    document, variables = ways_to_pass_tags()[way]
    before = len(running.runs()), backfills(running)
    status, answer = running.graphql(document, role="launcher", **variables)
    assert (status, POD in answer["errors"][0]["message"]) == (403, True)
    assert (len(running.runs()), backfills(running)) == before

    status, answer = running.graphql(document, role="admin", **variables)
    assert status == 200, answer
    assert (len(running.runs()), backfills(running)) > before


@pytest.mark.parametrize("way", ways_to_pass_run_config())
def test_a_launcher_cannot_set_run_config(way: str, running: Running) -> None:
    document, variables = ways_to_pass_run_config()[way]
    before = len(running.runs()), backfills(running)
    status, answer = running.graphql(document, role="launcher", **variables)
    assert status == 403, answer
    assert "only an admin may set run config; this request sets resources.api.config.url" in str(answer)
    assert "elsewhere.test" not in str(answer)
    assert (len(running.runs()), backfills(running)) == before


def test_an_admin_may_set_run_config(running: Running) -> None:
    status, answer = running.graphql(RUN, role="admin", p=execution(config=ELSEWHERE_YAML))
    assert (status, answer["data"]["launchRun"]["__typename"]) == (200, "LaunchRunSuccess")
    assert running.runs()[-1][0] == ELSEWHERE


@pytest.mark.parametrize("config", [None, {}, "", "{}", "{}\n", "# nothing\n", {"resources": {}}, "resources: {}"])
def test_a_launcher_may_pass_empty_run_config(config: object, running: Running) -> None:
    status, answer = running.graphql(RUN, role="launcher", p=execution(config=config))
    assert (status, answer["data"]["launchRun"]["__typename"]) == (200, "LaunchRunSuccess"), answer


def test_a_launcher_may_set_the_console_log_level(running: Running) -> None:
    config = {"loggers": {"console": {"config": {"log_level": "DEBUG"}}}}
    status, answer = running.graphql(RUN, role="launcher", p=execution(config=config))
    assert (status, answer["data"]["launchRun"]["__typename"]) == (200, "LaunchRunSuccess")
    config["loggers"]["console"]["config"]["log_level"] = {"env": "HOME"}  # type: ignore[assignment]
    assert running.graphql(RUN, role="launcher", p=execution(config=config))[0] == 403


@pytest.mark.parametrize(
    "tag",
    [
        "dagster-k8s/config",
        "dagster-celery/queue",
        "dagster-celery-k8s/config",
        "ecs/cpu",
        "ecs/run_task_kwargs",
        "dagster/image",
        "dagster/priority",
        "dagster/isolation",
        "dagster/run_key",
        ".dagster/run_worker",
        "restate_pos",
        "anything",
        "Tenant",
        " tenant",
    ],
)
def test_a_launcher_sets_listed_tags_only(tag: str, running: Running) -> None:
    tags = [{"key": tag, "value": "1"}]
    assert running.graphql(RUN, role="launcher", p=execution(tags))[0] == 403
    listed = [{"key": "dagster/from_ui", "value": "true"}, *own_tags()]
    assert running.graphql(RUN, role="launcher", p=execution(listed))[0] == 200


def own_tags(tenant: str = "acme", workflow: str = "daily") -> list[dict[str, str]]:
    """The tags that the UI repeats of a job."""
    return [{"key": "tenant", "value": tenant}, {"key": "workflow", "value": workflow}]


@pytest.mark.parametrize("tags", [own_tags(tenant="other"), own_tags(workflow="other"), own_tags(tenant="")])
def test_a_launcher_cannot_run_a_job_as_another_tenants(tags: list[dict[str, str]], running: Running) -> None:
    assert running.graphql(RUN, role="launcher", p=execution(tags))[0] == 403
    assert running.graphql(RUN, role="admin", p=execution(tags))[0] == 200


def test_a_launcher_cannot_backfill_assets_as_a_tenant(running: Running) -> None:
    of_assets = {"assetSelection": ASSETS, "partitionNames": ["2026-10-05"]}
    assert running.graphql(BACKFILL, role="launcher", b={**of_assets, "tags": own_tags()})[0] == 403
    of_job = {
        "selector": {"partitionSetName": "acme__daily_partition_set", "repositorySelector": LOCATION},
        "partitionNames": ["2026-10-05"],
    }
    assert running.graphql(BACKFILL, role="launcher", b={**of_job, "tags": own_tags()})[0] == 200


REEXECUTE = f"mutation ($r: ReexecutionParams!) {{ launchRunReexecution(reexecutionParams: $r) {RAN} }}"


def launched(running: Running, **params: Any) -> str:
    """A run that an admin launched."""
    answer = running.graphql(RUN, role="admin", p=execution(**params))[1]
    return str(answer["data"]["launchRun"]["run"]["id"])


def test_a_launcher_reexecutes_with_listed_extra_tags_only(running: Running) -> None:
    parent = {"parentRunId": launched(running), "strategy": "ALL_STEPS"}
    assert running.graphql(REEXECUTE, role="launcher", r={**parent, "extraTags": pod()})[0] == 403
    status, answer = running.graphql(REEXECUTE, role="launcher", r={**parent, "extraTags": DAY})
    assert (status, answer["data"]["launchRunReexecution"]["__typename"]) == (200, "LaunchRunSuccess")


@pytest.mark.parametrize("use_parent_run_tags", [None, True])
def test_a_launcher_cannot_repeat_a_pod_specification(use_parent_run_tags: bool | None, running: Running) -> None:
    params = {"parentRunId": launched(running, tags=pod()), "strategy": "ALL_STEPS"}
    before = len(running.runs())
    status, answer = running.graphql(REEXECUTE, role="launcher", r={**params, "useParentRunTags": use_parent_run_tags})
    assert (status, len(running.runs())) == (403, before)
    assert "only an admin may repeat the tag 'dagster-k8s/config' of the original" in str(answer)
    assert running.graphql(REEXECUTE, role="launcher", r={**params, "useParentRunTags": False})[0] == 200
    assert POD not in running.runs()[-1][1]


def test_a_launcher_cannot_repeat_the_run_config_of_an_admin(running: Running) -> None:
    params = {"parentRunId": launched(running, config=ELSEWHERE), "strategy": "ALL_STEPS"}
    status, answer = running.graphql(REEXECUTE, role="launcher", r=params)
    assert status == 403
    assert "only an admin may repeat the original's run config; it sets resources.api.config.url" in str(answer)
    assert running.graphql(REEXECUTE, role="admin", r=params)[0] == 200


def test_a_launcher_may_repeat_dagsters_own_tags_of_the_parent(running: Running) -> None:
    """The UI re-executes selected steps with all tags of the parent."""
    own = [{"key": "dagster/schedule_name", "value": "nightly"}, {"key": "team", "value": "sales"}]
    parent = launched(running, tags=[*own, *pod()])
    reexecute = RUN.replace("launchRun(", "launchRunReexecution(")
    metadata = {"parentRunId": parent, "rootRunId": parent}

    def send(tags: list[dict[str, str]]) -> int:
        params = execution(tags)
        params["executionMetadata"].update(metadata)
        return running.graphql(reexecute, role="launcher", p=params)[0]

    assert send(own) == 200
    assert send([{**own[0], "value": "another"}]) == 403
    assert send(pod()) == 403


def test_a_launcher_cannot_resume_a_backfill_with_a_pod_tag(running: Running) -> None:
    params = {"assetSelection": ASSETS, "partitionNames": ["2026-10-05"]}
    resume = "mutation ($id: String!) { resumePartitionBackfill(backfillId: $id) { __typename } }"
    cancel = "mutation ($id: String!) { cancelPartitionBackfill(backfillId: $id) { __typename } }"
    again = f"mutation ($r: ReexecutionParams) {{ reexecutePartitionBackfill(reexecutionParams: $r) {BACKFILLED} }}"
    for tags, expected in ((pod(), 403), ([], 200)):
        answer = running.graphql(BACKFILL, role="admin", b={**params, "tags": tags})[1]
        backfill = answer["data"]["launchPartitionBackfill"]["backfillId"]
        assert running.graphql(resume, role="launcher", id=backfill)[0] == expected
        parameters = {"parentRunId": backfill, "strategy": "ALL_STEPS"}
        status, _ = running.graphql(again.replace("Params)", "Params!)"), role="launcher", r=parameters)
        assert (status == 403) == (expected == 403)
        assert running.graphql(cancel, role="launcher", id=backfill)[0] == 200


@pytest.mark.parametrize("use_parent_run_tags", [None, True, False])
def test_a_launcher_cannot_repeat_a_backfill_with_a_pod_tag(use_parent_run_tags: bool | None, running: Running) -> None:
    """Dagster copies the tags of a backfill whatever the request says of them."""
    params = {"assetSelection": ASSETS, "partitionNames": ["2026-10-05"], "tags": pod()}
    original = running.graphql(BACKFILL, role="admin", b=params)[1]["data"]["launchPartitionBackfill"]["backfillId"]
    backfill = running.instance.get_backfill(original)
    assert backfill
    canceled = backfill.with_status(BulkActionStatus.CANCELED)  # type: ignore[no-untyped-call]
    running.instance.update_backfill(canceled)
    again = f"mutation ($r: ReexecutionParams!) {{ reexecutePartitionBackfill(reexecutionParams: $r) {BACKFILLED} }}"
    parameters = {"parentRunId": original, "strategy": "ALL_STEPS", "useParentRunTags": use_parent_run_tags}
    before = backfills(running)
    status, answer = running.graphql(again, role="launcher", r=parameters)
    assert (status, backfills(running)) == (403, before), answer
    assert "only an admin may repeat the tag 'dagster-k8s/config' of the original" in str(answer)


def test_a_launcher_may_repeat_a_run_that_a_run_launcher_has_tagged(running: Running) -> None:
    """On Kubernetes every run is given the tag of its image."""
    parent = launched(running)
    running.instance.add_run_tags(parent, {"dagster/image": "the/image:1"})
    params = {"parentRunId": parent, "strategy": "ALL_STEPS", "useParentRunTags": True}
    assert running.graphql(REEXECUTE, role="launcher", r=params)[0] == 200
    assert running.graphql(RUN, role="launcher", p=execution([{"key": "dagster/image", "value": "x"}]))[0] == 403


def test_the_audit_line_records_what_was_passed(running: Running, audited: list[dict[str, Any]]) -> None:
    secret = {"resources": {"api": {"config": {"url": "https://user:marker@elsewhere.test"}}}}
    tags = [{"key": POD, "value": "marker"}]
    for role in ("launcher", "admin"):
        running.graphql(RUN, role=role, p=execution(tags, config=secret))
    refused, allowed = audited
    assert list(allowed)[:8] == list(audit.FIELDS)
    assert (refused["outcome"], allowed["outcome"]) == ("refused", "allowed")
    assert (allowed["user"], allowed["role"], allowed["address"]) == ("admin's name", "admin", "127.0.0.1")
    for line in audited:
        assert (line["event"], line["name"]) == ("mutation", "launchRun")
        assert line["target"] == {"repositoryLocationName": "location.py", "jobName": "acme__daily"}
        assert line["tags"] == {"dagster/partition": "2026-10-05", POD: None}
        assert line["run_config"] == {"resources.api.config.url": None}
    assert "marker" not in str(audited)


def test_a_request_with_newlines_is_one_audit_line(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    forged = '\n{"event": "mutation", "user": "somebody else"}\n'
    logger = logging.getLogger("sync_pipeline.audit")
    before = logger.handlers, logger.level
    audit.configure()
    running.graphql(RUN, role="admin", p=execution([{"key": forged, "value": forged}]))
    logger.handlers, logger.level = before
    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line)["tags"] == {"dagster/partition": "2026-10-05", forged: None}


def test_yaml_aliases_do_not_make_run_config_large_to_check() -> None:
    bomb = "a0: &a0 {x: {}}\n" + "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9))
    mapping = "a0: &a0 {}\n" + "\n".join(
        f"a{n}: &a{n} {{{', '.join(f'k{i}: *a{n - 1}' for i in range(9))}}}" for n in range(1, 9)
    )
    assert Launch(run_configs=(bomb,)).problem()
    assert len(read_fields(mapping)) <= MAX_NODES
    assert Launch(run_configs=(mapping,)).problem()
    assert Launch(run_configs=("a: &a [*a]",)).problem()
    assert Launch(run_configs=("a: [",)).problem()


SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
CONFIGS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner), max_leaves=8
)


@given(CONFIGS)
def test_run_config_passes_only_if_nothing_is_set(config: object) -> None:
    def sets_something(value: object) -> bool:
        return any(map(sets_something, value.values())) if isinstance(value, dict) else True

    refused = Launch(run_configs=(config,)).problem() is not None
    if not isinstance(config, str):  # text is YAML, and may well set nothing
        assert refused == (config is not None and sets_something(config))
