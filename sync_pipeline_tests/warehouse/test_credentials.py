"""What the daily check found is stored per tenant and subject, and only the last of it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL

from sync_pipeline.warehouse import database
from sync_pipeline.warehouse.credentials import (
    CredentialExpiry,
    CredentialState,
    Subject,
    store_expiries,
    stored_expiries,
)
from sync_pipeline.warehouse.tenancy import Warehouse

NOW = datetime(2026, 11, 28, 4, 0, tzinfo=UTC)


def token(ends_at: datetime | None, checked_at: datetime = NOW) -> CredentialExpiry:
    return CredentialExpiry("meta", Subject.TOKEN, CredentialState.VALID, ends_at, checked_at)


VERSION = CredentialExpiry("meta", Subject.API_VERSION, CredentialState.VALID, None, NOW, version="v26.0")


@pytest.fixture
def sync(warehouse_url: URL) -> Iterator[sa.Engine]:
    engine = database.connect(warehouse_url)
    yield engine
    engine.dispose()


def test_what_is_found_later_replaces_what_was_found(sync: sa.Engine) -> None:
    with Warehouse(sync).tenant("acme", name="Acme", timezone="UTC"):
        pass
    assert stored_expiries(sync, "acme") == []
    assert store_expiries(sync, "acme", [VERSION, token(NOW + timedelta(days=3))])
    later = token(NOW + timedelta(days=90), NOW + timedelta(days=1))
    assert store_expiries(sync, "acme", [later])
    assert stored_expiries(sync, "acme") == [VERSION, later]
    with Warehouse(sync).tenant("acme", name="Acme", timezone="UTC") as held:
        assert held.credential_expiries() == [VERSION, later]


def test_nothing_is_stored_of_a_tenant_before_its_first_run(sync: sa.Engine, engine: sa.Engine) -> None:
    assert not store_expiries(sync, "acme", [VERSION])
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM credential_expiries")).scalar_one() == 0
        assert connection.execute(sa.text("SELECT count(*) FROM tenants")).scalar_one() == 0


def test_deleting_a_tenant_deletes_what_was_found(sync: sa.Engine, engine: sa.Engine) -> None:
    with Warehouse(sync).tenant("acme", name="Acme", timezone="UTC"):
        pass
    store_expiries(sync, "acme", [VERSION])
    Warehouse(sync).delete("acme")
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM credential_expiries")).scalar_one() == 0
