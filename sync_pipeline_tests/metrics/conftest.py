"""The installation of the command line's tests, and what a scrape of it shows."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

from sync_pipeline.metrics.collector import SnapshotCollector
from sync_pipeline.metrics.reading import SnapshotReader
from sync_pipeline_tests.cli.conftest import installed, shell

__all__ = ["installed", "shell"]


@dataclass(frozen=True)
class Scrape:
    """The samples of one scrape: by name, each with its labels and its value."""

    text: str
    samples: dict[str, list[tuple[dict[str, str], float]]] = field(init=False)

    def __post_init__(self) -> None:
        found: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families(self.text):
            for sample in family.samples:
                found.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
        object.__setattr__(self, "samples", found)

    def values(self, name: str, **labels: str) -> list[float]:
        """The values of the samples that have these labels, among others."""
        return [value for has, value in self.samples.get(name, []) if labels.items() <= has.items()]

    def value(self, name: str, **labels: str) -> float:
        """The value of the only sample that has these labels."""
        [value] = self.values(name, **labels)
        return value


class Endpoint:
    """Scrapes the installation; nothing is shared between two scrapes but what the reader keeps."""

    def __init__(self, *, only_tenants: bool = False) -> None:
        self.reader = SnapshotReader(only_tenants=only_tenants)
        self.collector = SnapshotCollector(self.reader.read, fresh_for_s=0.0, answer_within_s=60.0)

    def scrape(self) -> Scrape:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self.collector)
        return Scrape(generate_latest(registry).decode())


@pytest.fixture
def endpoint(installed: object) -> Iterator[Endpoint]:
    endpoint = Endpoint()
    yield endpoint
    endpoint.reader.close()
