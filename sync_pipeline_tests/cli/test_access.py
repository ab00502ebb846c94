"""Who reads what, on the command line: passwords are shown once, and nothing is deleted by mistake."""

import itertools
import os
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from sync_pipeline.cli import commands
from sync_pipeline.errors import SyncPipelineError
from sync_pipeline_tests.cli.installed import Installed
from sync_pipeline_tests.cli.shell import Shell
from sync_pipeline_tests.pipeline import all_seeing

_numbers = itertools.count(1)


@pytest.fixture
def stored(installed: Installed, engine: sa.Engine) -> Installed:
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO tenants VALUES ('lumina', 'L', 'UTC'), ('mekong', 'M', 'UTC')"))
        connection.execute(sa.text("INSERT INTO pos_shops (tenant_id, shop_id) VALUES ('lumina', '1')"))
    return installed


@pytest.fixture
def role(engine: sa.Engine) -> Iterator[str]:
    name = f"cli_reader_{os.getpid()}_{next(_numbers)}"
    yield name
    with engine.begin() as connection:
        if connection.execute(sa.text("SELECT FROM pg_roles WHERE rolname = :role"), {"role": name}).all():
            connection.execute(sa.text(f"DROP OWNED BY {name}; DROP ROLE {name}"))


def command(*arguments: str, typed: str = "") -> Result:
    return CliRunner().invoke(commands, arguments, input=typed)


def test_grant_makes_a_role_and_shows_its_password_once(stored: Installed, role: str) -> None:
    made = command("grant", "lumina", "--role", role)
    said, url, password = made.stdout.splitlines()
    assert said == f"role {role} is made and may read lumina alone"
    assert url.startswith(f"url: postgresql://{role}@/warehouse_")
    assert len(password.removeprefix("password: ")) > 20
    again = command("grant", "lumina", "--role", role)
    assert again.stdout.splitlines() == [f"role {role} may read lumina alone", url]
    assert command("revoke", "lumina", "--role", role).stdout == (
        f"role {role} may not read lumina any more, and is dropped\n"
    )


def test_a_reader_is_shown_none_of_the_owners_options(
    stored: Installed, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = sa.make_url(os.environ["SYNC_PIPELINE_DATABASE_URL"])
    owners = url.set(username=None).update_query_dict({"user": str(url.username), "password": "MARKER-7f3a"})
    monkeypatch.setenv("SYNC_PIPELINE_DATABASE_URL", owners.render_as_string(hide_password=False))
    result = command("grant", "lumina", "--role", role)
    assert result.exit_code == 0, result.output
    assert "MARKER" not in result.output
    assert "user=" not in result.output


def test_a_password_from_standard_input_is_not_repeated(stored: Installed, engine: sa.Engine, role: str) -> None:
    result = command("grant", "lumina", "--role", role, "--password-stdin", typed="MARKER-7f3a\n")
    assert result.exit_code == 0
    assert "MARKER" not in result.output
    with engine.connect() as connection:
        query = sa.text("SELECT rolpassword FROM pg_authid WHERE rolname = :role")
        assert str(connection.execute(query, {"role": role}).scalar_one()).startswith("SCRAM-SHA-256$")
    assert "no password on standard input" in command("grant", "lumina", "--role", role, "--password-stdin").output


def test_a_refusal_is_one_clear_error(shell: Shell) -> None:
    for arguments, told in {
        ("grant", "lumina", "--role", "reader"): "the warehouse holds nothing of a tenant lumina",
        ("revoke", "lumina", "--role", "reader"): "the role 'reader' does not read lumina",
        ("tenants", "delete", "lumina"): "the warehouse holds nothing of a tenant lumina",
    }.items():
        result = shell.run(*arguments)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr.startswith(f"error: {told}")
        assert len(result.stderr.splitlines()) == 1


def test_delete_shows_what_there_is_and_wants_the_tenants_name(stored: Installed, role: str) -> None:
    command("grant", "lumina", "--role", role)
    for typed in ("yes\n", "mekong\n", "\n\n"):
        result = command("tenants", "delete", "lumina", typed=typed)
        assert result.exit_code == 1
    result = command("tenants", "delete", "lumina", typed="mekong\n")
    assert isinstance(result.exception, SyncPipelineError)
    assert str(result.exception) == "that is not the tenant's name; nothing was deleted"
    assert stored.warehouse.row_counts("lumina")["pos_shops"] == 1
    done = command("tenants", "delete", "lumina", typed="lumina\n")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["pos_shops", "1"] in lines
    assert ["tenants", "1"] in lines
    assert "lumina: 3 rows are deleted" in done.stdout
    assert f"may not read it any more: {role}" in done.stdout
    assert "Dagster's history of its runs stays" in done.stdout
    assert command("tenants", "delete", "mekong", "--yes").exit_code == 0


def test_check_warns_of_a_superuser_and_of_a_warehouse_out_of_reach(shell: Shell, engine: sa.Engine) -> None:
    url = engine.url.render_as_string(hide_password=False)
    assert engine.url == all_seeing(engine.url)
    told = shell.run("check", SYNC_PIPELINE_DATABASE_URL=url)
    assert (told.returncode, told.stdout.count(": ok ")) == (0, 2)
    assert told.stderr.startswith("warning: the warehouse is reached as the role postgres, which is a superuser")
    away = "postgresql://someone:MARKER-7f3a@127.0.0.1:1/warehouse"
    unseen = shell.run("check", "lumina", SYNC_PIPELINE_DATABASE_URL=away)
    assert (unseen.returncode, unseen.stdout.count(": ok ")) == (0, 1)
    assert unseen.stderr.startswith("warning: the warehouse was not looked at: cannot connect")
    assert "MARKER" not in unseen.stderr
