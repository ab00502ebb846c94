"""Secrets in mounted files: read by each run anew, and found nowhere afterwards."""

from datetime import date
from pathlib import Path

import pytest

from sync_pipeline.cli import checking
from sync_pipeline.tenants import load_tenants
from sync_pipeline_tests.pipeline import Pipeline

JOB = "lumina__daily_sync"
DAY = date(2026, 10, 6)


@pytest.fixture
def mounted(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lumina's token and key in files of this folder, and not in the environment."""
    folder = pipeline.tenants / "mounted"
    folder.mkdir()
    file = pipeline.tenants / "lumina.yaml"
    text = file.read_text()
    for variable in ("LUMINA_META_TOKEN", "LUMINA_PANCAKE_KEY"):
        (folder / variable).write_text(f"{pipeline.sandbox.environment[variable]}\n")
        monkeypatch.delenv(variable)
        assert text.count(f"{{env: {variable}}}") == 1
        text = text.replace(f"{{env: {variable}}}", f"{{file: ./mounted/{variable}}}")
    file.write_text(text)
    pipeline.reload()
    return folder


def test_a_run_reads_them_when_it_needs_them_and_leaves_no_trace(
    pipeline: Pipeline,
    mounted: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    values = [pipeline.sandbox.environment[file.name] for file in mounted.iterdir()]
    assert pipeline.run(JOB, DAY, DAY).success
    sources = {f"file:{mounted}/LUMINA_PANCAKE_KEY"}
    assert {source for (source,) in pipeline.query("SELECT api_key_variable FROM pos_shops")} == sources

    # Rotated, and nothing reloaded: the next run has the new one, here a wrong one, and then again the right one.
    right = (mounted / "LUMINA_META_TOKEN").read_text()
    (mounted / "LUMINA_META_TOKEN").write_text("MARKER-41d7-rotated\n")
    failed = pipeline.run(JOB, DAY, DAY)
    assert not failed.success
    (mounted / "LUMINA_META_TOKEN").write_text(right)
    assert pipeline.run(JOB, DAY, DAY).success

    shown = "".join(capfd.readouterr()) + caplog.text
    assert "lumina" in shown
    for value in (*values, "MARKER-41d7-rotated"):
        assert value not in shown
        kept = [
            f for f in tmp_path.rglob("*") if f.is_file() and f.parent != mounted and value.encode() in f.read_bytes()
        ]
        assert kept == []


def test_a_run_without_its_file_fails_with_one_sentence_that_names_it(pipeline: Pipeline, mounted: Path) -> None:
    (mounted / "LUMINA_PANCAKE_KEY").unlink()
    failed = pipeline.run(JOB, DAY, DAY)
    (data,) = [event.step_failure_data for event in failed.all_events if event.is_step_failure]
    assert data.user_failure_data
    assert data.user_failure_data.description == (
        f"tenant lumina: pancake.0.api_key: the file {mounted}/LUMINA_PANCAKE_KEY does not exist"
    )


def test_check_says_which_are_missing(pipeline: Pipeline, mounted: Path) -> None:
    (mounted / "LUMINA_META_TOKEN").write_text("")
    (mounted / "LUMINA_PANCAKE_KEY").unlink()
    lines = checking.report(load_tenants(pipeline.tenants), "lumina", live=False)
    assert [line.text for line in lines if line.warning] == [
        f"tenant lumina: meta.access_token: the file {mounted}/LUMINA_META_TOKEN is empty",
        f"tenant lumina: pancake.0.api_key: the file {mounted}/LUMINA_PANCAKE_KEY does not exist",
    ]
