"""Where this installation keeps things and whom it talks to: the environment variables of the contract, read once."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

META_GRAPH_URL = "https://graph.facebook.com"
PANCAKE_API_URL = "https://pos.pages.fm/api/v1"
UI_URL = "http://127.0.0.1:3000"

# The workspace file of webserver and daemon, and the code location in it that loads this folder of tenants.
WORKSPACE_VARIABLE = "SYNC_PIPELINE_WORKSPACE"
LOCATION_VARIABLE = "SYNC_PIPELINE_LOCATION"
# The address that an external watcher expects a request at; its path is a secret.
HEARTBEAT_VARIABLE = "SYNC_PIPELINE_HEARTBEAT_URL"


@dataclass(frozen=True, slots=True)
class Settings:
    """The environment as the pipeline reads it. URLs that hold secrets are left out of the repr."""

    tenants: Path
    home: Path
    database_url: str | None = field(repr=False)
    dagster_postgres_url: str | None = field(repr=False)
    meta_graph_url: str
    pancake_api_url: str
    ui_url: str
    webserver_url: str
    """Where commands reach the webserver: by default `ui_url`, the address that people open."""
    workspace: Path | None = None
    location: str | None = None
    heartbeat_url: str | None = field(default=None, repr=False)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """Read the variables; an empty one counts as unset."""
        env = os.environ if environ is None else environ
        ui_url = env.get("SYNC_PIPELINE_UI_URL") or UI_URL
        return cls(
            tenants=Path(env.get("SYNC_PIPELINE_TENANTS") or "tenants"),
            home=Path(env.get("SYNC_PIPELINE_HOME") or ".sync_pipeline").absolute(),
            database_url=env.get("SYNC_PIPELINE_DATABASE_URL") or None,
            dagster_postgres_url=env.get("DAGSTER_POSTGRES_URL") or None,
            meta_graph_url=env.get("META_GRAPH_URL") or META_GRAPH_URL,
            pancake_api_url=env.get("PANCAKE_API_URL") or PANCAKE_API_URL,
            ui_url=ui_url,
            webserver_url=env.get("SYNC_PIPELINE_WEBSERVER_URL") or ui_url,
            workspace=Path(env[WORKSPACE_VARIABLE]) if env.get(WORKSPACE_VARIABLE) else None,
            location=env.get(LOCATION_VARIABLE) or None,
            heartbeat_url=env.get(HEARTBEAT_VARIABLE) or None,
        )
