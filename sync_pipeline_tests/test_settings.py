"""Settings from the environment."""

import pytest

from sync_pipeline.settings import Settings


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "http://127.0.0.1:3000"),
        ({"SYNC_PIPELINE_UI_URL": "https://dagster.example"}, "https://dagster.example"),
        (
            {"SYNC_PIPELINE_UI_URL": "https://dagster.example", "SYNC_PIPELINE_WEBSERVER_URL": "http://webserver:3000"},
            "http://webserver:3000",
        ),
        (
            {"SYNC_PIPELINE_UI_URL": "https://dagster.example", "SYNC_PIPELINE_WEBSERVER_URL": ""},
            "https://dagster.example",
        ),
    ],
)
def test_commands_reach_the_webserver_at_its_own_address(environ: dict[str, str], expected: str) -> None:
    assert Settings.from_environment(environ).webserver_url == expected
