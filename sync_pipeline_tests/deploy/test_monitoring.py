"""The alert rules, the dashboard and the example of deploy/monitoring, with promtool and a real Prometheus."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
import uvicorn
import yaml

from sync_pipeline.assets.checks import SPEND_MATCHES_ACCOUNT
from sync_pipeline.assets.credentials import CREDENTIALS_CURRENT
from sync_pipeline.assets.verdicts import ERROR, WARN, Verdict, evaluation
from sync_pipeline.automation.freshness import tell_freshness
from sync_pipeline.metrics.server import application
from sync_pipeline.tenants import find_tenant, load_tenants
from sync_pipeline_tests.cli.conftest import installed, shell
from sync_pipeline_tests.cli.installed import Installed
from sync_pipeline_tests.cli.shell import Shell
from sync_pipeline_tests.deploy.compose import DEPLOY
from sync_pipeline_tests.deploy.prometheus import needs_prometheus, needs_promtool, promtool, running
from sync_pipeline_tests.metrics.conftest import Endpoint
from sync_pipeline_tests.waiting import PATIENCE_S, wait_until

__all__ = ["installed", "shell"]

MONITORING = DEPLOY / "monitoring"
GROUPS: list[dict[str, Any]] = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
RULES: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
DASHBOARD: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
DOCS = (DEPLOY.parent / "docs" / "metrics.md").read_text()
JOB = "lumina__daily_sync"
DAY = date(2026, 10, 5)
# What Prometheus itself has of a target.
SCRAPED = {"up"}
NAME = re.compile(r"\b(sync_pipeline_\w+|up)\b(?=[{\[ )=,]|$)")

# For each alert: the series that make it fire, those that do not, and how long it has to hold.
CASES = {
    "SyncPipelineMetricsDown": ('up{job="sync-pipeline"}', "0", "1", 5),
    "SyncPipelineMetricsIncomplete": ("sync_pipeline_up", "0", "1", 5),
    "SyncPipelineDaemonDead": ('sync_pipeline_daemon_heartbeat_age_seconds{daemon="sensor"}', "601", "600", 1),
    "SyncPipelineQueueStuck": ('sync_pipeline_queue_length{job="j",instance="i"}', "3", "0", 15),
    "SyncPipelineQueueSlow": ("sync_pipeline_queue_oldest_age_seconds", "14401", "14400", 5),
    "SyncPipelineDaysLate": (
        'sync_pipeline_check_failed{check="up_to_date",severity="ERROR",asset="pos_orders",tenant="t"}',
        "1",
        "_",
        5,
    ),
    "SyncPipelineCheckFailed": (
        'sync_pipeline_check_failed{check="orders_all_stored",severity="ERROR",asset="pos_orders",tenant="t"}',
        "2",
        "_",
        5,
    ),
    "SyncPipelineCredentialEnding": (
        'sync_pipeline_check_failed{check="credentials_current",severity="WARN",tenant="t"}',
        "1",
        "_",
        5,
    ),
    "SyncPipelineCredentialEnded": (
        'sync_pipeline_check_failed{check="credentials_current",severity="ERROR",tenant="t"}',
        "1",
        "_",
        5,
    ),
    "SyncPipelineRunsFailing": ('sync_pipeline_last_run_failed{tenant="t",workflow="w"}', "1", "0", 10),
}
# Series that a case needs beside its own, the same in both situations.
BESIDE = {
    "SyncPipelineQueueStuck": {'sync_pipeline_runs{job="j",instance="i",status="STARTED"}': "0"},
}
QUIET = {'up{job="sync-pipeline"}': "1"}


def names_in(expression: str) -> set[str]:
    return set(NAME.findall(re.sub(r'"[^"]*"', '""', expression)))


def expressions() -> dict[str, str]:
    """Every expression of the dashboard by panel, with the variables of Grafana filled in."""
    found = {}
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            filled = target["expr"].replace("$__rate_interval", "5m").replace("$tenant", ".*")
            assert "$" not in filled
            found[f"{panel['title']} {target['refId']}"] = filled
    return found


@pytest.fixture
def exposed(installed: Installed, shell: Shell) -> set[str]:
    """The names of all series that an installation with everything in it exposes."""
    make_every_alert_true(installed, shell)
    installed.run("mekong__daily_sync", DAY, DAY)
    installed.warehouse.engine.dispose()
    endpoint = Endpoint()
    found = set(endpoint.scrape().samples)
    endpoint.reader.close()
    return found


def make_every_alert_true(installed: Installed, shell: Shell) -> None:
    """Put an installation into a state in which every alert is true but that of an endpoint that is down."""
    lumina = find_tenant(load_tenants(shell.tenants), "lumina")
    tell_freshness(installed.instance, installed.warehouse, [lumina], {}, datetime.now(UTC), None)
    report = installed.instance.report_runless_asset_event
    report(evaluation(lumina, SPEND_MATCHES_ACCOUNT, Verdict(passed=False, sentence="off by a cent"), DAY))
    ends = {"token_ends_at": "2027-01-05T12:00:00+00:00"}
    report(evaluation(lumina, CREDENTIALS_CURRENT, Verdict(False, "ends soon", ends, severity=WARN)))
    mekong = find_tenant(load_tenants(shell.tenants), "mekong")
    report(evaluation(mekong, CREDENTIALS_CURRENT, Verdict(False, "has ended", {}, severity=ERROR)))
    queued = installed.note(JOB, dg.DagsterRunStatus.QUEUED)
    failed = installed.instance.get_run_by_id(installed.note(JOB, dg.DagsterRunStatus.STARTED))
    assert failed
    installed.instance.report_run_failed(failed)
    with installed.instance.run_storage.connect() as connection:  # type: ignore[attr-defined]
        ago = "create_timestamp = create_timestamp - interval '5 hours'"
        connection.execute(sa.text(f"UPDATE runs SET {ago} WHERE run_id = '{queued}'"))


@needs_promtool
def test_promtool_accepts_rules_and_configuration() -> None:
    checked = promtool("check", "rules", MONITORING / "alerts.yaml")
    assert checked.returncode == 0, checked.stderr
    assert f"{len(RULES)} rules found" in checked.stdout
    config = promtool("check", "config", MONITORING / "prometheus.yaml")
    assert config.returncode == 0, config.stderr + config.stdout


@needs_promtool
def test_promtool_parses_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{n}", "expr": text} for n, text in enumerate(expressions().values())]
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    checked = promtool("check", "rules", tmp_path / "panels.yaml")
    assert checked.returncode == 0, checked.stderr


def test_alerts_and_panels_use_metrics_that_exist(exposed: set[str]) -> None:
    used = {rule["alert"]: names_in(rule["expr"]) for rule in RULES}
    used |= {panel: names_in(text) for panel, text in expressions().items()}
    assert all(used.values())
    # These come with errors and waits of an API, which is busy elsewhere.
    known = exposed | SCRAPED | {"sync_pipeline_api_errors_total", "sync_pipeline_api_wait_seconds_total"}
    assert {name: names - known for name, names in used.items() if names - known} == {}


def test_every_metric_and_every_alert_is_described(exposed: set[str]) -> None:
    described = set(re.findall(r"`(sync_pipeline_\w+)`", DOCS))
    bases = {re.sub(r"_(bucket|count|sum)$", "", name) for name in exposed if "run_duration" in name} | {
        name for name in exposed if "run_duration" not in name
    }
    assert bases - described == set()
    assert set(re.findall(r"^\| `(SyncPipeline\w+)`", DOCS, re.MULTILINE)) == {rule["alert"] for rule in RULES}


@needs_promtool
@pytest.mark.parametrize("alert", [rule["alert"] for rule in RULES])
def test_an_alert_fires_after_its_time_and_not_otherwise(tmp_path: Path, alert: str) -> None:
    series, bad, good, minutes = CASES[alert]

    def situation(value: str, *, fires: bool) -> dict[str, Any]:
        inputs = {**QUIET, **BESIDE.get(alert, {}), series: value}
        before, after = f"{minutes - 1}m" if minutes > 1 else "0m", f"{minutes + 1}m"
        return {
            "interval": "30s",
            "input_series": [{"series": name, "values": f"{text}x100"} for name, text in inputs.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)',
                    "eval_time": at,
                    "exp_samples": [{"labels": "{}", "value": count}],
                }
                for at, count in ((before, 0), (after, int(fires)))
            ],
        }

    suite = {
        "rule_files": [str(MONITORING / "alerts.yaml")],
        "evaluation_interval": "30s",
        "tests": [situation(bad, fires=True), situation(good, fires=False)],
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(suite))
    done = promtool("test", "rules", tmp_path / "test.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def served(endpoint: Endpoint) -> Iterator[tuple[str, uvicorn.Server]]:
    server = uvicorn.Server(
        uvicorn.Config(application(endpoint.collector), host="127.0.0.1", port=0, log_config=None, log_level="warning")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"127.0.0.1:{port}", server
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)


@needs_prometheus
def test_every_alert_fires_in_a_real_prometheus(installed: Installed, shell: Shell, tmp_path: Path) -> None:
    """The rules as they are, but at once; their times are tested with promtool."""
    at_once = [{**group, "rules": [{**rule, "for": "0s"} for rule in group["rules"]]} for group in GROUPS]
    everything = {rule["alert"] for rule in RULES}
    last = {"SyncPipelineMetricsDown", "SyncPipelineMetricsIncomplete"}
    endpoint = Endpoint()
    endpoint.collector._fresh_for_s = 1.0
    folder = tmp_path / "prometheus"
    folder.mkdir()
    make_every_alert_true(installed, shell)
    with served(endpoint) as (target, server), running(folder, target, at_once) as prometheus:
        assert prometheus.wait_for_alerts(everything - last).isdisjoint(last)
        assert prometheus.query("sync_pipeline_build_info")
        # Without a folder of tenants a part of the metrics is missing.
        shell.tenants.rename(shell.folder / "elsewhere")
        prometheus.wait_for_alerts({"SyncPipelineMetricsIncomplete"})
        (shell.folder / "elsewhere").rename(shell.tenants)
        server.should_exit = True
        prometheus.wait_for_alerts({"SyncPipelineMetricsDown"})
    endpoint.reader.close()


def test_helm_and_compose_serve_metrics_to_prometheus_alone() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    service = compose["services"]["metrics"]
    assert service["profiles"] == ["metrics"]
    assert "ports" not in service
    assert set(service["networks"]) == {"inside", "monitoring"}
    assert compose["networks"]["monitoring"] == {"internal": True}
    assert not any("secrets" in mount for mount in service["volumes"])
    assert all(mount.endswith(":ro") for mount in service["volumes"])
    [target] = yaml.safe_load((MONITORING / "prometheus.yaml").read_text())["scrape_configs"][0]["static_configs"][0][
        "targets"
    ]
    assert target == f"metrics:{service['command'][-1]}"

    values = yaml.safe_load((DEPLOY / "helm" / "values.yaml").read_text())
    manifests = {one["kind"]: one for one in yaml.safe_load_all((DEPLOY / "helm" / "metrics.yaml").read_text())}
    assert set(manifests) == {"Deployment", "Service", "NetworkPolicy"}
    labels = manifests["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert manifests["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert manifests["Service"]["spec"]["selector"] == labels
    policy = manifests["NetworkPolicy"]["spec"]
    assert policy["podSelector"]["matchLabels"] == labels
    [rule] = policy["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": 9464}]
    assert [set(peer) for peer in rule["from"]] == [{"namespaceSelector"}]
    [container] = manifests["Deployment"]["spec"]["template"]["spec"]["containers"]
    [location] = values["dagster-user-deployments"]["deployments"]
    assert container["image"] == f"{location['image']['repository']}:{location['image']['tag']}"
    assert container["args"] == service["command"]
    ours = {entry["name"]: entry for entry in container["env"]}
    theirs = {entry["name"]: entry for entry in location["env"]}
    assert set(ours) == {name.removesuffix("_FILE") for name in service["environment"]}
    assert all(ours[name] == theirs[name] for name in ours)
    monitor = yaml.safe_load((DEPLOY / "helm" / "servicemonitor.yaml").read_text())
    assert monitor["spec"]["selector"]["matchLabels"] == manifests["Service"]["metadata"]["labels"]
    assert monitor["spec"]["endpoints"][0]["relabelings"] == [{"targetLabel": "job", "replacement": "sync-pipeline"}]
