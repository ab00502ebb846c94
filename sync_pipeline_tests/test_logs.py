"""With SYNC_PIPELINE_LOG=json every line on standard error is one object, of every process that is ours."""

import json
import os
import re
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import URL

from sync_pipeline import logs
from sync_pipeline.logs import LogFormatError, as_json
from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline_tests.cli.conftest import served, shell
from sync_pipeline_tests.cli.shell import Shell
from sync_pipeline_tests.cli.ui import Ui
from sync_pipeline_tests.waiting import PATIENCE_S

pytestmark = pytest.mark.slow

__all__ = ["served", "shell"]

DAYS = ("--since", "2026-10-05", "--until", "2026-10-06")


def lines(text: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in text.splitlines()]
    for line in found:
        assert {"timestamp", "level", "logger", "message"} <= line.keys()
        assert datetime.fromisoformat(line["timestamp"]).utcoffset() == timedelta()
        assert line["level"] in {"debug", "info", "warning", "error", "critical"}
    return found


def python(code: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "SYNC_PIPELINE_LOG": "json", **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)


def test_another_value_is_one_clear_error(shell: Shell) -> None:
    with pytest.raises(LogFormatError, match="SYNC_PIPELINE_LOG must be json, or unset"):
        as_json({"SYNC_PIPELINE_LOG": "xml"})
    result = shell.run("check", SYNC_PIPELINE_LOG="xml")
    assert result.returncode == 1
    assert result.stderr == "error: SYNC_PIPELINE_LOG must be json, or unset for lines meant for people\n"
    assert as_json({"SYNC_PIPELINE_LOG": ""}) is as_json({}) is False


def test_whatever_a_process_says_is_a_line(shell: Shell) -> None:
    done = python(
        "import logging, threading, warnings\n"
        "from sync_pipeline import logs\n"
        "logging.getLogger('early').addHandler(logging.StreamHandler())\n"
        "logging.getLogger('early').propagate = False\n"
        "logs.configure(); logs.configure()\n"
        "logging.getLogger('urllib3').warning('GET /me?access_token=MARKER-1 %s', 'now\\nthen')\n"
        "logging.getLogger('x').error('told', extra={'tenant': 'acme', 'day': '2026-10-05', 'other': object()})\n"
        "logging.getLogger('coloured').addHandler(logging.StreamHandler())\n"
        "logging.getLogger('coloured').propagate = False\n"
        "logging.getLogger('coloured').error('plain')\n"
        "warnings.warn('careful')\n"
        "thread = threading.Thread(target=lambda: [][0]); thread.start(); thread.join()\n"
        "raise RuntimeError('api_key=MARKER-2 Đà Nẵng')"
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "MARKER" not in done.stderr
    found = lines(done.stderr)
    assert [(line["level"], line["logger"]) for line in found] == [
        ("warning", "urllib3"),
        ("error", "x"),
        ("error", "coloured"),
        ("warning", "py.warnings"),
        ("critical", "sync_pipeline"),
        ("critical", "sync_pipeline"),
    ]
    assert found[0]["message"] == "GET /me?access_token=*** now\nthen"
    assert (found[1]["tenant"], found[1]["day"]) == ("acme", "2026-10-05")
    assert "other" not in found[1]
    assert "IndexError" in found[4]["exception"]
    assert found[5]["exception"].endswith("RuntimeError: api_key=*** Đà Nẵng")


def test_a_run_that_fails_says_where_and_why_without_a_secret(shell: Shell, sandbox: SandboxServer) -> None:
    sandbox.faults.add(Fault(faults.http_error(500), path="shops/31.*/orders", times=None))
    result = shell.run("trigger", "lumina", "daily_sync", *DAYS, SYNC_PIPELINE_LOG="json")
    assert result.returncode == 1
    found = lines(result.stderr)
    [run_id] = {line["run_id"] for line in found if "run_id" in line}
    [failure] = [line for line in found if line.get("source") == "pos" and line["level"] == "error"]
    assert failure["message"].startswith("Pancake failed on its side")
    known = {name: failure[name] for name in ("tenant", "workflow", "run_id", "day", "source")}
    expected = {"tenant": "lumina", "workflow": "daily_sync", "run_id": run_id, "day": "2026-10-05", "source": "pos"}
    assert known == expected
    assert failure["shop_id"].startswith("31")
    committed = [(line["day"], line["source"]) for line in found if "committed" in line["message"]]
    assert committed == [("2026-10-05", "meta")]
    last = found[-1]
    assert (last["level"], last["tenant"], last["run_id"]) == ("error", "lumina", run_id)
    assert last["message"].startswith("lumina daily_sync failed: Pancake failed on its side")
    for name, secret in sandbox.environment.items():
        assert secret not in result.stderr or name.endswith("_URL")


def test_commands_say_their_problems_as_lines_and_their_results_as_ever(shell: Shell) -> None:
    (shell.tenants / "mekong.yaml").write_text("tenant: mekong\nname: [")
    result = shell.run("check", SYNC_PIPELINE_LOG="json", LUMINA_META_TOKEN="")
    assert result.returncode == 1
    assert [line["level"] for line in lines(result.stderr)] == ["error", "warning"]
    assert result.stdout == "lumina: ok (workflows: daily_sync, weekly_resync, meta_only)\n"
    assert [line["level"] for line in lines(shell.run("nonsense", SYNC_PIPELINE_LOG="json").stderr)] == ["error"]


def test_a_run_of_the_code_server_logs_lines_too(warehouse_url: URL) -> None:
    """Dagster's console logger, as a run worker makes it, in a process that has loaded the definitions."""
    done = python(
        "from sync_pipeline import logs; logs.configure()\n"
        "import dagster as dg\n"
        "@dg.op\n"
        "def speak(context): context.log.info('hello'); dg.get_dagster_logger().warning('there')\n"
        "@dg.job(tags={'tenant': 'acme', 'workflow': 'nightly'})\n"
        "def talk(): speak()\n"
        "talk.execute_in_process()"
    )
    assert done.returncode == 0
    found = lines(done.stderr)
    said = {line["message"]: line for line in found}
    assert [line["message"] for line in found].count("there") == 1
    for message in ("hello", "there"):
        assert (said[message]["tenant"], said[message]["workflow"]) == ("acme", "nightly")
        assert said[message]["step"] == "speak"


def test_dagster_s_own_setup_keeps_the_format() -> None:
    done = python(
        "from sync_pipeline import logs; logs.configure()\n"
        "import logging, structlog, warnings\n"
        "from dagster._utils.log import configure_loggers\n"
        "configure_loggers(formatter='json', log_level='INFO')\n"
        "logging.getLogger('dagster.daemon').info('once')\n"
        "logging.getLogger('dagster-webserver').warning('twice')\n"
        "structlog.get_logger('dagster.structured').warning('thrice', day='2026-10-05')\n"
        "warnings.warn('careful')"
    )
    assert (done.returncode, done.stdout) == (0, "")
    found = lines(done.stderr)
    assert [line["logger"] for line in found][:2] == ["dagster.daemon", "dagster-webserver"]
    assert [line["message"] for line in found][:3] == ["once", "twice", "thrice"]
    assert len(found) == 4


def test_the_access_log_has_lines_without_queries() -> None:
    done = python(
        "from sync_pipeline import logs; logs.configure()\n"
        "import threading, time, urllib.request, uvicorn\n"
        "async def app(scope, receive, send):\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': b''})\n"
        "server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan='off'))\n"
        "thread = threading.Thread(target=server.run); thread.start()\n"
        "while not server.started: time.sleep(0.01)\n"
        "port = server.servers[0].sockets[0].getsockname()[1]\n"
        "urllib.request.urlopen(f'http://127.0.0.1:{port}/auth/oidc/callback?code=MARKER')\n"
        "server.should_exit = True; thread.join()"
    )
    assert done.returncode == 0, done.stderr
    assert "MARKER" not in done.stdout + done.stderr
    assert {line["logger"] for line in lines(done.stderr)} == {"uvicorn.error"}
    # uvicorn has it on standard output.
    [access] = lines(done.stdout)
    assert access["logger"] == "uvicorn.access"
    assert re.fullmatch(r'127\.0\.0\.1:\d+ - "GET /auth/oidc/callback HTTP/1\.1" 200', access["message"])


def test_python_sets_the_log_up_when_it_starts() -> None:
    startup = str(Path(logs.__file__).parent / "startup")
    said = "import logging; logging.getLogger('dagster').warning('first')"
    assert [line["message"] for line in lines(python(said, PYTHONPATH=startup).stderr)] == ["first"]
    assert python(said, PYTHONPATH=startup, SYNC_PIPELINE_LOG="").stderr == "first\n"
    assert "SYNC_PIPELINE_LOG must be json" in python(said, PYTHONPATH=startup, SYNC_PIPELINE_LOG="xml").stderr


@pytest.fixture
def all_json(shell: Shell) -> Shell:
    shell.environment = {**shell.environment, "SYNC_PIPELINE_LOG": "json"}
    return shell


def test_webserver_daemon_and_code_server_of_dev_write_lines(
    all_json: Shell, served: tuple[Ui, "subprocess.Popen[str]"]
) -> None:
    ui, process = served
    # Loading this anew makes the code server say something.
    (all_json.tenants / "mekong.yaml").write_text("tenant: mekong\nname: [")
    ui.ask('mutation { reloadRepositoryLocation(repositoryLocationName: "sync_pipeline") { __typename } }')
    process.terminate()
    process.wait(PATIENCE_S)
    first, *rest = (all_json.folder / "dev.log").read_text().splitlines()
    assert first.startswith("warehouse is at migration"), "what the command prints"
    found = lines("\n".join(rest))
    assert {"dagster", "dagster-webserver", "dagster.daemon"} <= {line["logger"] for line in found}
    ours = [line for line in found if line.get("logger") == "dagster.sync_pipeline"]
    assert ours
    assert all(line["level"] == "error" and "mekong.yaml" in line["message"] for line in ours)
