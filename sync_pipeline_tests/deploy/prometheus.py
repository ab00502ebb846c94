"""Debian's Prometheus in a test's hands; tests that need it are skipped without it."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from sync_pipeline_tests.ports import reserve_port
from sync_pipeline_tests.waiting import PATIENCE_S, wait_until

REASON = "needs prometheus and promtool, such as those of Debian's package prometheus"
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason=REASON)
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None, reason=REASON
)


def promtool(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(shutil.which("promtool")), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


@dataclass(frozen=True)
class Prometheus:
    """A server that scrapes and evaluates every second."""

    url: str
    process: "subprocess.Popen[bytes]"

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        found = requests.get(f"{self.url}/api/v1/alerts", timeout=30).json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in found if alert["state"] == "firing"}

    def query(self, expression: str) -> list[dict[str, Any]]:
        answer = requests.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=30).json()
        assert answer["status"] == "success", answer
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def wait_for_alerts(self, names: set[str]) -> set[str]:
        """Wait until these alerts fire, and return all that do."""
        return wait_until(
            self.firing, lambda firing: names <= firing, process=self.process, ignored=(requests.RequestException,)
        )


@contextmanager
def running(folder: Path, target: str, rules: Sequence[Mapping[str, Any]]) -> Iterator[Prometheus]:
    """Run a server that scrapes one target as the job of the rules."""
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": list(rules)}))
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(folder / "rules.yaml")],
        "scrape_configs": [{"job_name": "sync-pipeline", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{reserve_port()}"
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            [
                str(shutil.which("prometheus")),
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=log,
        )
    server = Prometheus(f"http://{address}", process)
    try:
        wait_until(
            lambda: requests.get(f"{server.url}/-/ready", timeout=10).ok,
            process=process,
            ignored=(requests.RequestException,),
        )
        yield server
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
