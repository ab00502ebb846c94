"""Tables of the login, and those of an installation that had dagster-authkit."""

from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa
from sqlalchemy.engine import URL

from sync_pipeline.webserver.login import storage
from sync_pipeline.webserver.roles import Role
from sync_pipeline_tests.webserver.login.site import environment, site
from sync_pipeline_tests.webserver.login.test_passwords import OLD_HASH, OLD_PASSWORD

# As dagster-authkit 1.2.0 creates its table, and rows in it.
OLD_TABLE = (
    'CREATE TABLE IF NOT EXISTS "users" ("username" VARCHAR(255) NOT NULL PRIMARY KEY, "password_hash" VARCHAR(255) '
    'NOT NULL, "role" INTEGER NOT NULL, "email" VARCHAR(255), "full_name" VARCHAR(255), "is_active" BOOLEAN NOT NULL, '
    '"created_at" TIMESTAMP NOT NULL, "last_login" TIMESTAMP, "session_version" INTEGER NOT NULL)'
)
OLD_USER = (
    "INSERT INTO users (username, password_hash, role, email, full_name, is_active, created_at, session_version) "
    "VALUES (:name, :hash, :role, '', '', :active, '2026-11-01 10:00:00.123456', 3)"
)
OLD_ROLES = {"vera": 10, "lee": 20, "edith": 30, "ada": 40}


def with_old_users(url: URL) -> None:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text(OLD_TABLE))
        for name, role in OLD_ROLES.items():
            values = {"name": name, "hash": OLD_HASH, "role": role, "active": True}
            connection.execute(sa.text(OLD_USER), values)
        connection.execute(sa.text(OLD_USER), {"name": "gone", "hash": OLD_HASH, "role": 40, "active": False})


def test_users_of_dagster_authkit_still_sign_in(users_url: URL) -> None:
    with_old_users(users_url)
    ui = site(environment(users_url))
    roles = {}
    for name in OLD_ROLES:
        browser = ui.browser()
        assert browser.sign_in(name, "wrong").status_code == 401
        assert browser.sign_in(name, OLD_PASSWORD).status_code == 303
        roles[name] = browser.who()
    expected = {"vera": Role.VIEWER, "lee": Role.LAUNCHER, "edith": Role.LAUNCHER, "ada": Role.ADMIN}
    assert roles == {name: (name, role) for name, role in expected.items()}
    assert ui.browser().sign_in("gone", OLD_PASSWORD).status_code == 401


def test_old_hash_is_replaced_at_the_first_sign_in(users_url: URL) -> None:
    with_old_users(users_url)
    ui = site(environment(users_url))
    assert ui.users.have_bcrypt_hashes()
    for name in OLD_ROLES:
        assert ui.browser().sign_in(name, OLD_PASSWORD).status_code == 303
        user = ui.users.find(name)
        assert user
        assert user.password_hash.startswith("$argon2id$")
        assert ui.browser().sign_in(name, OLD_PASSWORD).status_code == 303
    assert not ui.users.have_bcrypt_hashes()


def test_name_that_dagster_authkit_shortened_still_signs_in(users_url: URL) -> None:
    with_old_users(users_url)
    ui = site(environment(users_url))
    # `add-user vera@example.com` had stored the name without the characters that it did not allow.
    with ui.engine.begin() as connection:
        connection.execute(sa.text("UPDATE users SET username = 'veraexample.com' WHERE username = 'vera'"))
    browser = ui.browser()
    assert browser.sign_in("vera@example.com", OLD_PASSWORD).status_code == 303
    assert browser.who() == ("veraexample.com", "viewer")


def test_table_without_session_versions_gets_them(users_url: URL) -> None:
    with_old_users(users_url)
    engine = sa.create_engine(users_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE users DROP COLUMN session_version"))
    browser = site(environment(users_url)).browser()
    assert browser.sign_in("ada", OLD_PASSWORD).status_code == 303
    assert browser.who() == ("ada", "admin")


def test_upgrade_by_several_webservers_at_once_succeeds(users_url: URL) -> None:
    with_old_users(users_url)
    engines = [storage.connect(users_url) for _ in range(6)]
    with ThreadPoolExecutor(len(engines)) as threads:
        list(threads.map(storage.upgrade, engines))
    columns = {column["name"] for column in sa.inspect(engines[0]).get_columns("users")}
    assert columns == set(storage.users.columns.keys())
    for engine in engines:
        storage.upgrade(engine)
        engine.dispose()
