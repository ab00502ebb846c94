"""What the daily check found about a tenant's API version and credentials: the table `credential_expiries`.

It holds when they end, never the credentials themselves.
"""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from sync_pipeline.warehouse.database import bound_to, failing_clearly
from sync_pipeline.warehouse.schema import credential_expiries, tenants


class Subject(StrEnum):
    """What can end."""

    API_VERSION = "api_version"
    TOKEN = "token"  # noqa: S105 (a name, not a secret)
    DATA_ACCESS = "data_access"


class CredentialState(StrEnum):
    """What the API said. UNKNOWN: it does not tell when the subject ends."""

    VALID = "valid"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class CredentialExpiry:
    """What was found at `checked_at` about one subject of a source.

    `version` is the API version that it holds for, None for other subjects. `ends_at` None: no end, unless the state is
    REFUSED or UNKNOWN.
    """

    source: str
    subject: str
    state: str
    ends_at: datetime | None
    checked_at: datetime
    version: str | None = None


_KEY: Final = ("tenant_id", "source", "subject")
_COLUMNS: Final = [credential_expiries.c[name] for name in CredentialExpiry.__dataclass_fields__]


def store_expiries(engine: sa.Engine, tenant_id: str, expiries: Collection[CredentialExpiry]) -> bool:
    """Replace what is stored about these subjects; return whether the tenant is in the warehouse.

    Nothing is stored of a tenant before its first run. Raises `WarehouseFailedError`.
    """
    statement = insert(credential_expiries)
    values = {name: statement.excluded[name] for name in credential_expiries.c.keys() if name not in _KEY}  # noqa: SIM118
    with failing_clearly(), bound_to(engine, tenant_id) as connection, connection.begin():
        known = connection.execute(sa.select(tenants.c.tenant_id).where(tenants.c.tenant_id == tenant_id)).all()
        for expiry in expiries if known else ():
            row = statement.values(tenant_id=tenant_id, **asdict(expiry))
            connection.execute(row.on_conflict_do_update(index_elements=list(_KEY), set_=values))
    return bool(known)


def stored_expiries(engine: sa.Engine, tenant_id: str) -> list[CredentialExpiry]:
    """Return what is stored about a tenant. Raises `WarehouseFailedError`."""
    with failing_clearly(), bound_to(engine, tenant_id) as connection:
        return expiries_of(connection, tenant_id)


def expiries_of(connection: sa.Connection, tenant_id: str) -> list[CredentialExpiry]:
    """Return what is stored about a tenant, in a transaction."""
    c = credential_expiries.c
    statement = sa.select(*_COLUMNS).where(c.tenant_id == tenant_id).order_by(c.source, c.subject)
    with connection.begin():
        return [CredentialExpiry(*row) for row in connection.execute(statement)]
