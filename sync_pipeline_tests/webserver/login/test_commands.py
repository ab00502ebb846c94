"""Commands for users."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from sqlalchemy.engine import URL

from sync_pipeline.webserver.login.commands import users
from sync_pipeline.webserver.roles import Role
from sync_pipeline_tests.webserver.login.site import PASSWORD, Site

Run = Callable[..., Result]


@pytest.fixture
def run(users_url: URL, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", users_url.render_as_string(hide_password=False))
    return lambda *arguments, **how: CliRunner().invoke(users, arguments, **how)


def test_added_user_signs_in_with_their_role(run: Run, ui: Site) -> None:
    options = {"vera": [], "vic": ["--viewer"], "lee": ["--launcher"], "edith": ["--editor"], "ada": ["--admin"]}
    roles = {}
    for name, chosen in {**options, "rob": ["--role", "ADMIN"]}.items():
        assert run("add-user", name, *chosen, "--password", PASSWORD).exit_code == 0
        browser = ui.browser(f"192.0.2.{len(roles)}")
        browser.sign_in(name)
        roles[name] = (browser.who() or ("", ""))[1]
    viewers = dict.fromkeys(("vera", "vic"), Role.VIEWER)
    assert roles == {**viewers, "lee": Role.LAUNCHER, "edith": Role.LAUNCHER, "ada": Role.ADMIN, "rob": Role.ADMIN}


def test_password_is_prompted_for_or_read_from_standard_input(run: Run, ui: Site) -> None:
    assert run("add-user", "ana", input=f"{PASSWORD}\n{PASSWORD}\n").exit_code == 0
    assert run("add-user", "ben", "--password-stdin", input=f"{PASSWORD}\n").exit_code == 0
    assert run("add-user", "eve", "--password-stdin", input="").exit_code == 1
    for name in ("ana", "ben"):
        assert ui.browser().sign_in(name).status_code == 303


@pytest.mark.parametrize("command", ["add-user", "change-password"])
def test_short_password_needs_force(run: Run, ui: Site, command: str) -> None:
    ui.add("old")
    name = "old" if command == "change-password" else "new"
    refused = run(command, name, "--password", "eleven char")
    assert refused.exit_code == 1
    assert "fewer than 12 characters" in str(refused.exception)
    assert "eleven" not in str(refused.exception)
    assert run(command, name, "--password", "twelve chars").exit_code == 0
    assert run("change-password", name, "--password", "x", "--force").exit_code == 0
    assert ui.browser().sign_in(name, "x").status_code == 303
    assert run("change-password", name, "--password", "", "--force").exit_code == 1


def test_deleted_user_can_be_added_again(run: Run, ui: Site) -> None:
    run("add-user", "ana", "--admin", "--password", PASSWORD)
    assert run("delete-user", "ana", "--yes").exit_code == 0
    assert ui.browser().sign_in("ana").status_code == 401
    assert run("add-user", "ana", "--password", "another password").exit_code == 0
    assert ui.browser().sign_in("ana").status_code == 401
    browser = ui.browser()
    assert browser.sign_in("ana", "another password").status_code == 303
    assert browser.who() == ("ana", "viewer")


def test_user_that_exists_is_not_added_again(run: Run, ui: Site) -> None:
    ui.add("ana")
    again = run("add-user", "ana", "--admin", "--password", "another password")
    assert again.exit_code == 1
    assert "exists already" in str(again.exception)
    assert ui.browser().sign_in("ana").status_code == 303


@pytest.mark.parametrize("name", ["", "service-token", "a b", "a\nb", "ana@example.com", "a" * 101, "ä"])
def test_name_that_could_not_sign_in_is_not_added(run: Run, name: str) -> None:
    refused = run("add-user", name, "--password", PASSWORD)
    assert refused.exit_code == 1
    assert "cannot be added" in str(refused.exception)


def test_changes_of_a_user_that_does_not_exist_are_errors(run: Run) -> None:
    for arguments in (
        ("change-role", "nobody", "admin"),
        ("change-password", "nobody", "--password", PASSWORD),
        ("delete-user", "nobody", "-y"),
        ("add-user", "nobody", "--single-sign-on"),
    ):
        refused = run(*arguments)
        assert refused.exit_code == 1
        assert "nobody" in str(refused.exception)
    assert run("change-role", "nobody", "emperor").exit_code == 2


def test_deletion_asks_first(run: Run, ui: Site) -> None:
    ui.add("ana")
    assert run("delete-user", "ana", input="n\n").exit_code == 1
    assert ui.browser().sign_in("ana").status_code == 303
    assert run("delete-user", "ana", input="y\n").exit_code == 0
    assert ui.browser().sign_in("ana").status_code == 401


def test_user_of_single_sign_on_is_changed_at_the_provider(run: Run, ui: Site) -> None:
    ui.add("ana")
    with ui.engine.begin() as connection:
        provided = "UPDATE users SET oidc_issuer = 'https://id.example', oidc_subject = '1', password_hash = ''"
        connection.execute(sa.text(provided))
    for arguments in (("change-role", "ana", "admin"), ("change-password", "ana", "--password", PASSWORD)):
        assert "at the identity provider" in str(run(*arguments).exception)
    assert run("delete-user", "ana", "-y").exit_code == 0
    assert "deleted" in run("list-users").output
    assert run("add-user", "ana", "--single-sign-on").exit_code == 0
    assert "active" in run("list-users").output


def test_full_name_that_does_not_fit_is_an_error(run: Run) -> None:
    refused = run("add-user", "ana", "--full-name", "a" * 256, "--password", PASSWORD)
    assert "at most 255 characters" in str(refused.exception)


def test_missing_extra_is_one_clear_error() -> None:
    without = "import sys; sys.modules['argon2'] = None; sys.argv[1:] = ['list-users']"
    command = f"{without}; from sync_pipeline.webserver.main import main; main()"
    ended = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, "error: argon2 is missing; install sync-pipeline[auth]\n")


def test_list_shows_everybody_and_no_hash(run: Run, ui: Site) -> None:
    run("add-user", "ana", "--admin", "--full-name", "Ana Reyes", "--password", PASSWORD)
    ui.add("ben")
    ui.users.delete("ben")
    listed = run("list-users").output
    assert [line.split() for line in listed.splitlines()[1:]] == [
        ["ana", "admin", "active", "password", "Ana", "Reyes"],
        ["ben", "viewer", "deleted", "password"],
        ["2", "users"],
    ]


def test_commands_are_in_the_audit_log_without_passwords(
    run: Run, ui: Site, audit_lines: Callable[[], list[dict[str, Any]]]
) -> None:
    run("add-user", "ana", "--admin", "--password", PASSWORD)
    run("change-role", "ana", "viewer")
    run("change-password", "ana", "--password", f"{PASSWORD}!")
    run("delete-user", "ana", "-y")
    assert [(line["event"], line["target"]) for line in audit_lines()] == [
        ("user_added", "ana"),
        ("role_changed", "ana"),
        ("password_changed", "ana"),
        ("user_deleted", "ana"),
    ]
    assert "marker" not in str(audit_lines())
