"""Names from APIs, cost files and tenant files are shown literally by the Dagster UI."""

from pathlib import Path

import dagster as dg
import pytest

import sync_pipeline
from sync_pipeline.assets.checks import ONE_CURRENCY
from sync_pipeline.assets.verdicts import Verdict, evaluation
from sync_pipeline.definitions import build_definitions
from sync_pipeline.settings import Settings
from sync_pipeline.tenants import BROKEN_GROUP, find_tenant, load_tenants
from sync_pipeline.text_safety import WORD_JOINER
from sync_pipeline_tests.assets.conftest import DAYS, SYNC_JOB, Synced
from sync_pipeline_tests.pipeline import copied_demo_tenants

ATTACK = "![](/auth/logout) <img src=x> [a](https://evil.test) **b**"
ESCAPED = rf"\!\[\]\(\/auth\/logout\) \<img src\=x\> \[a\]\(https\:\/\/{WORD_JOINER}evil\.test\) \*\*b\*\*"


@pytest.fixture
def attacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dg.Definitions:
    """The demo tenants, with an attack in every text of lumina's file, and a broken file besides."""
    folder = copied_demo_tenants(tmp_path / "tenants")
    costs = folder / "![](x)_costs.csv"
    (folder / "lumina_costs.csv").rename(costs)
    file = folder / "lumina.yaml"
    text = (
        file.read_text()
        .replace("name: Lumina Skin", f"name: '{ATTACK}'")
        .replace("lumina_costs.csv", f"'{costs.name}'")
    )
    file.write_text(text.replace("description: Yesterday, every night", f"description: '{ATTACK}'"))
    (folder / "![](y).yaml").write_text(f"tenant: '{ATTACK}'\n")
    monkeypatch.setenv("SYNC_PIPELINE_TENANTS", str(folder))
    monkeypatch.setenv("SYNC_PIPELINE_HOME", str(tmp_path / "home"))
    return build_definitions(Settings.from_environment())


def test_descriptions_of_assets_escape_the_tenant_file(attacked: dg.Definitions) -> None:
    graph = attacked.resolve_asset_graph()
    descriptions = {key.to_user_string(): graph.get(key).description or "" for key in graph.get_all_asset_keys()}
    for asset in ("lumina/meta_ad_accounts", "lumina/pos_shops"):
        assert ESCAPED in descriptions[asset]
    assert r"\!\[\]\(x\)\_costs\.csv" in descriptions["lumina/product_costs"]
    [broken] = [text for asset, text in descriptions.items() if asset.startswith(BROKEN_GROUP)]
    assert r"\!\[\]\(y\)\.yaml" in broken
    for text in descriptions.values():
        assert "![" not in text
        assert "](" not in text
        assert "<img" not in text.replace(r"\<img", "")


def test_a_workflow_description_is_escaped_where_markdown_is(attacked: dg.Definitions) -> None:
    repository = attacked.get_repository_def()
    assert repository.get_job("lumina__daily_sync").description == ESCAPED
    # Dagster shows a schedule's description as plain text.
    assert repository.get_schedule_def("lumina__daily_sync_schedule").description == ATTACK


def test_a_check_evaluation_escapes_its_sentence(attacked: dg.Definitions) -> None:
    tenant = find_tenant(load_tenants(Settings.from_environment().tenants), "lumina")
    event = evaluation(tenant, ONE_CURRENCY, Verdict(passed=False, sentence=f"shop {ATTACK}\x1b[2J"))
    assert event.description == rf"shop {ESCAPED} \[2J"


def test_an_ad_name_is_a_cell_of_a_table(synced: Synced) -> None:
    name = f"{ATTACK}\n\x1b[31m"
    synced.execute(f"UPDATE meta_ad_insights SET ad_name = E'{name}', marketing_associate = E'{name}'")
    result = synced.run(SYNC_JOB, DAYS.since, DAYS.since, assets=["lumina/ad_performance"])
    assert result.success
    materializations = result.get_asset_materialization_events()
    events = [event.step_materialization_data.materialization for event in materializations]
    metadata = [value for event in events for value in event.metadata.values()]
    assert not [value for value in metadata if isinstance(value, dg.MarkdownMetadataValue)]
    tables = [value for value in metadata if isinstance(value, dg.TableMetadataValue)]
    assert len(tables) == 2
    for table in tables:
        assert {next(iter(record.data.values())) for record in table.records} >= {f"{ATTACK} [31m"}


def test_nothing_in_the_package_makes_markdown_metadata() -> None:
    package = Path(sync_pipeline.__file__).parent
    for file in package.rglob("*.py"):
        assert "MetadataValue.md(" not in file.read_text(), file
        assert "MarkdownMetadataValue" not in file.read_text(), file
