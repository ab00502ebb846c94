"""Limits on attempts to sign in."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL

from sync_pipeline.webserver.login import attempts
from sync_pipeline.webserver.login.attempts import PER_ADDRESS, PER_ADDRESS_AND_NAME, PER_NAME, Attempts, buckets
from sync_pipeline.webserver.login.storage import login_attempts
from sync_pipeline_tests.webserver.login.site import Site, environment, site


def admit(table: Attempts, address: str, name: str, device: str | None = None) -> bool:
    return table.admit(buckets(address, name, device))


def count(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(login_attempts)).scalar_one())


def test_wrong_passwords_for_a_name_are_refused_after_the_limit(ui: Site) -> None:
    ui.add("ana")
    browser = ui.browser()
    statuses = [browser.sign_in("ana", f"guess {n}").status_code for n in range(PER_ADDRESS_AND_NAME + 2)]
    assert statuses == [401] * PER_ADDRESS_AND_NAME + [429] * 2
    refused = browser.sign_in("ana")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "300")
    assert browser.who() is None


def test_other_spellings_of_a_name_share_its_limit(ui: Site) -> None:
    ui.add("ana")
    browser = ui.browser()
    statuses = [browser.sign_in(f"an{'!' * n}a", "guess").status_code for n in range(PER_ADDRESS_AND_NAME + 1)]
    assert statuses[-1] == 429


def test_made_up_names_block_nobody_elses_login(ui: Site) -> None:
    for name in ("ana", "ben"):
        ui.add(name)
    known = ui.browser("192.0.2.1")
    known.sign_in("ben")
    table = Attempts(ui.engine)
    admitted = [admit(table, "192.0.2.1", f"made-up-{n}") for n in range(10 * PER_ADDRESS)]
    assert admitted == [True] * PER_ADDRESS + [False] * (9 * PER_ADDRESS)
    # From elsewhere; and in the same office, with a browser that was used before.
    assert ui.browser("192.0.2.2").sign_in("ana").status_code == 303
    assert known.sign_in("ben").status_code == 303
    assert ui.browser("192.0.2.1").sign_in("ana").status_code == 429
    assert count(ui.engine) < 3 * PER_ADDRESS


def test_office_behind_one_address_can_mistype(ui: Site) -> None:
    table = Attempts(ui.engine)
    names = [f"colleague-{n}" for n in range(PER_ADDRESS // PER_ADDRESS_AND_NAME)]
    assert all(admit(table, "192.0.2.1", name) for name in names for _ in range(PER_ADDRESS_AND_NAME))
    # One who goes on with an old password does not use up the others' attempts.
    for _ in range(PER_ADDRESS):
        assert not admit(table, "192.0.2.1", names[0])
    assert not admit(table, "192.0.2.1", "one-more")


def test_refused_attempt_counts_in_no_bucket(ui: Site) -> None:
    table = Attempts(ui.engine)
    for _ in range(2 * PER_ADDRESS):
        admit(table, "192.0.2.1", "ana")
    assert admit(table, "192.0.2.1", "ben")
    assert admit(table, "192.0.2.2", "ana")


def test_guessing_from_many_addresses_spares_the_users_browser(ui: Site) -> None:
    ui.add("ana")
    browser = ui.browser("192.0.2.1")
    browser.sign_in("ana")
    browser.sign_out()
    table = Attempts(ui.engine)
    admitted = sum(admit(table, f"198.51.100.{n % 250}", "ana") for n in range(250))
    assert admitted == PER_NAME
    assert not admit(table, "203.0.113.1", "ana")
    assert browser.sign_in("ana").status_code == 303


def test_device_cookie_is_for_its_user_only_and_is_limited(ui: Site) -> None:
    for name in ("ana", "ben"):
        ui.add(name)
    browser = ui.browser()
    browser.sign_in("ana")
    statuses = [browser.sign_in("ana", "guess").status_code for _ in range(attempts.PER_DEVICE + 1)]
    assert statuses == [401] * attempts.PER_DEVICE + [429]
    statuses = [browser.sign_in("ben", "guess").status_code for _ in range(PER_ADDRESS_AND_NAME + 1)]
    assert statuses == [401] * PER_ADDRESS_AND_NAME + [429]


def test_ipv6_network_counts_as_one_address(ui: Site) -> None:
    table = Attempts(ui.engine)
    for n in range(PER_ADDRESS_AND_NAME):
        assert admit(table, f"2001:db8:1:2::{n:x}", "ana")
    assert not admit(table, "2001:db8:1:2:ffff::1", "ana")
    assert admit(table, "2001:db8:1:3::1", "ana")
    assert buckets("::ffff:192.0.2.1", "ana", None) == buckets("192.0.2.1", "ana", None)


def test_parts_of_a_bucket_do_not_run_into_each_other() -> None:
    pairs = [("a", "bc"), ("ab", "c"), ("a\0b", "c"), ("", "abc")]
    assert len({buckets(address, name, None)[1].key for address, name in pairs}) == len(pairs)
    assert {len(bucket.key) for bucket in buckets("x" * 100_000, "y" * 100_000, None)} == {32}


def test_bucket_is_empty_again_after_its_window(ui: Site) -> None:
    table = Attempts(ui.engine)
    while admit(table, "192.0.2.1", "ana"):
        pass
    with ui.engine.begin() as connection:
        earlier = login_attempts.c.expires_at - attempts.WINDOW
        connection.execute(sa.update(login_attempts).values(expires_at=earlier))
    assert admit(table, "192.0.2.1", "ana")


def test_successful_sign_ins_do_not_count(ui: Site) -> None:
    ui.add("ana")
    for _ in range(2 * PER_ADDRESS_AND_NAME):
        assert ui.browser().sign_in("ana").status_code == 303


def test_webservers_share_their_counters(users_url: URL) -> None:
    replicas = [site(environment(users_url)) for _ in range(2)]
    replicas[0].add("ana")
    statuses = [replicas[n % 2].browser().sign_in("ana", "guess").status_code for n in range(PER_ADDRESS_AND_NAME + 1)]
    assert statuses == [401] * PER_ADDRESS_AND_NAME + [429]


def test_attempts_at_the_same_time_do_not_exceed_the_limit(ui: Site) -> None:
    tables = [Attempts(ui.engine) for _ in range(4)]
    with ThreadPoolExecutor(8) as threads:
        admitted = list(threads.map(lambda n: admit(tables[n % 4], "192.0.2.1", "ana"), range(80)))
    assert sum(admitted) == PER_ADDRESS_AND_NAME


def test_old_buckets_are_evicted_and_their_number_is_bounded(ui: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "MAXIMUM_BUCKETS", 30)
    monkeypatch.setattr(attempts, "EVICTION_INTERVAL", 10)
    table = Attempts(ui.engine)
    for n in range(200):
        assert admit(table, f"10.0.{n // 250}.{n % 250}", f"name-{n}")
    assert count(ui.engine) <= 30 + 3 * 11
    with ui.engine.begin() as connection:
        earlier = login_attempts.c.expires_at - attempts.WINDOW
        connection.execute(sa.update(login_attempts).values(expires_at=earlier))
    table.evict()
    assert count(ui.engine) == 0


def test_what_was_typed_is_not_stored(ui: Site) -> None:
    ui.browser().sign_in("marker-of-a-password-in-the-name-field", "guess")
    with ui.engine.connect() as connection:
        [rows] = connection.execute(sa.text("SELECT string_agg(t::text, '') FROM login_attempts t")).one()
    assert "marker" not in rows
    assert b"marker".hex() not in rows
