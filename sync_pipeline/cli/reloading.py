"""Has a running webserver load the tenants again, on request or whenever a file in their folder changes."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.last_good import Fingerprint, fingerprint
from sync_pipeline.tenants import BROKEN_GROUP
from sync_pipeline.terminal import say

LOOK_EVERY_S = 1.0
# How often a change waits for other files to come to rest. One that is written without end must not hold it up.
PATIENCE = 10
# Loading hundreds of tenants takes seconds.
TIMEOUT_S = 120

RELOAD = """mutation {
  reloadWorkspace {
    __typename
    ... on UnauthorizedError { message }
    ... on PythonError { message }
    ... on Workspace {
      locationEntries { name locationOrLoadError { __typename ... on PythonError { message } } }
    }
  }
}"""
LOADED = """{
  repositoriesOrError {
    __typename
    ... on PythonError { message }
    ... on RepositoryConnection {
      nodes {
        assetGroups { groupName }
        assetNodes { groupName metadataEntries { label ... on JsonMetadataEntry { jsonString } } }
      }
    }
  }
}"""


class WebserverError(SyncPipelineError):
    """The webserver cannot be reached, or does not do what it is asked."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"{url}: {why}")
        self.url = url
        self.why = why


class NothingListensError(WebserverError):
    """No webserver listens at the address."""

    def __init__(self, url: str) -> None:
        super().__init__(url, "nothing listens there; start `sync-pipeline dev`, or name the address with --url")


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What the webserver loaded: the tenants, and for every broken file its problems with what is in use instead."""

    tenants: tuple[str, ...]
    problems: tuple[str, ...]

    def __str__(self) -> str:
        return f"tenants loaded: {', '.join(self.tenants) or 'none'}"


def reload(url: str) -> Reloaded:
    """Have the webserver at `url` load every tenant again, as *Reload definitions* does in the UI.

    Runs in progress finish as they began. Raises `WebserverError`.
    """
    answer = _ask(url, RELOAD)["reloadWorkspace"]
    _raise_if_refused(url, answer)
    for entry in answer["locationEntries"]:
        loaded = entry["locationOrLoadError"]
        if loaded and loaded["__typename"] == "PythonError":
            raise WebserverError(url, f"{entry['name']} does not load: {loaded['message'].strip()}")
    found = _ask(url, LOADED)["repositoriesOrError"]
    _raise_if_refused(url, found)
    groups = {group["groupName"] for node in found["nodes"] for group in node["assetGroups"]}
    problems = tuple(problem for node in found["nodes"] for asset in node["assetNodes"] for problem in _problems(asset))
    return Reloaded(tuple(sorted(groups - {BROKEN_GROUP})), problems)


class ChangeDetector:
    """Decides from successive fingerprints of a folder when a change of its files is complete."""

    def __init__(self, loaded: Fingerprint) -> None:
        self._loaded = dict(loaded)
        self._before: Fingerprint = loaded
        self._now: Fingerprint = loaded
        self._waited = 0

    def is_due(self, now: Fingerprint) -> bool:
        """Return whether a file differs from the loaded one and has come to rest.

        Editors write in several steps, and a checkout writes many files: a change waits until all files are at rest,
        but at most `PATIENCE` times.
        """
        self._before, self._now = self._now, now
        if not any(now.get(name) != self._loaded.get(name) for name in self._resting()):
            self._waited = 0
            return False
        self._waited += 1
        return now == self._before or self._waited > PATIENCE

    def mark_loaded(self) -> None:
        """Take the files at rest as loaded; one that was still being written is due once it comes to rest."""
        self._waited = 0
        for name in self._resting():
            if name in self._now:
                self._loaded[name] = self._now[name]
            else:
                del self._loaded[name]

    def _resting(self) -> set[str]:
        """The files, removed ones included, that did not change between the last two fingerprints."""
        names = {*self._loaded, *self._before, *self._now}
        return {name for name in names if self._before.get(name) == self._now.get(name)}


@contextmanager
def reloading_on_change(folder: Path, url: str) -> Iterator[None]:
    """Have the webserver at `url` reload whenever a file of the folder has changed and has then come to rest."""
    ended = threading.Event()
    changes = ChangeDetector(fingerprint(folder))

    def watch() -> None:
        while not ended.wait(LOOK_EVERY_S):
            if changes.is_due(fingerprint(folder)) and _reload_and_tell(folder, url):
                changes.mark_loaded()

    watcher = threading.Thread(target=watch, name="tenant files", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()


def _reload_and_tell(folder: Path, url: str) -> bool:
    try:
        result = reload(url)
    except NothingListensError:
        return False  # still starting
    except WebserverError as error:
        say(f"error: {folder} has changed, but could not be loaded again: {error}", err=True)
        return True
    problems = "".join(f"; error: {problem}" for problem in result.problems)
    say(f"{folder} has changed; {result}{problems}", err=True)
    return True


def _problems(asset: dict[str, Any]) -> list[str]:
    if asset["groupName"] != BROKEN_GROUP:
        return []
    texts = [entry["jsonString"] for entry in asset["metadataEntries"] if entry["label"] == "problems"]
    return [problem for text in texts for problem in json.loads(text)]


def _raise_if_refused(url: str, answer: dict[str, Any]) -> None:
    if "message" in answer:
        raise WebserverError(url, str(answer["message"]).strip())


def _login() -> dict[str, str]:
    """Headers that authenticate a program at a webserver with a login."""
    token = os.environ.get("DAGSTER_AUTH_SERVICE_TOKEN")
    return {"Dagster-Cloud-Api-Token": token} if token else {}


def _ask(url: str, document: str) -> dict[str, Any]:
    answer = None
    with requests.Session() as session:
        # A proxy of this shell is for the internet, not for a webserver of our own.
        session.trust_env = False
        try:
            response = session.post(
                f"{url.rstrip('/')}/graphql", json={"query": document}, headers=_login(), timeout=TIMEOUT_S
            )
            answer = response.json() if response.ok else None
        except requests.ConnectionError:
            raise NothingListensError(url) from None
        except requests.RequestException as error:
            raise WebserverError(url, f"does not answer ({type(error).__name__})") from None
    if not isinstance(answer, dict) or not isinstance(answer.get("data"), dict):
        raise WebserverError(url, "answers, but not as Dagster's webserver does")
    data: dict[str, Any] = answer["data"]
    return data
