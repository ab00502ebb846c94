"""Requests of the deployment tests to a webserver that is busy or gone: queries are repeated, mutations are not."""

import pytest
import requests

from sync_pipeline_tests.deploy.browser import LAUNCH, LOCATIONS, Browser
from sync_pipeline_tests.ports import reserve_port
from sync_pipeline_tests.sources.scripted import Reply, ScriptedServer

pytestmark = pytest.mark.slow

NO_LOCATIONS = {"data": {"workspaceOrError": {"locationEntries": []}}}


@pytest.mark.parametrize("failure", [Reply("busy", 500), Reply("busy", 503), Reply("", ending="reset")])
def test_a_query_that_fails_is_repeated(failure: Reply) -> None:
    with ScriptedServer(failure, NO_LOCATIONS) as server:
        assert Browser(server.url, "token").locations() == {}
    assert len(server.asked) == 2


@pytest.mark.parametrize("failure", [Reply("busy", 500), Reply("busy", 503), Reply("", ending="reset")])
def test_a_launch_that_fails_is_not_repeated(failure: Reply) -> None:
    with ScriptedServer(failure, NO_LOCATIONS) as server:
        with pytest.raises(requests.RequestException):
            Browser(server.url, "token").launch("north", "job", "2026-10-06", "2026-10-07")
    assert LAUNCH.startswith("mutation")
    assert len(server.asked) == 1


@pytest.mark.parametrize("document", [LAUNCH, LOCATIONS])
def test_a_refused_connection_ends_in_an_error(monkeypatch: pytest.MonkeyPatch, document: str) -> None:
    monkeypatch.setattr("urllib3.util.retry.time.sleep", lambda _: None)
    with pytest.raises(requests.ConnectionError):
        Browser(f"http://127.0.0.1:{reserve_port()}", "token").ask(document)
