"""Limits on attempts to sign in, counted in the database, so that all webservers share them.

An attempt counts in several buckets, and is refused while one of them is full. A bucket empties as a whole, a fixed
time after its first attempt. A browser that a user has signed in with before has a device cookie, and a bucket of its
own: neither strangers who guess that user's password from many addresses nor a colleague's script behind the same
address can keep it out.
"""

import hashlib
import ipaddress
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from sync_pipeline.webserver.login.storage import login_attempts, transaction

WINDOW = timedelta(minutes=5)
PER_ADDRESS_AND_NAME = 5
# An office shares one address.
PER_ADDRESS = 100
# From all addresses together, so that guessing does not get faster with more of them.
PER_NAME = 50
PER_DEVICE = 10
MAXIMUM_BUCKETS = 100_000
# Attempts, of one webserver, from one removal of old buckets to the next.
EVICTION_INTERVAL = 100
# Who has an IPv6 address usually has all of its /64.
IPV6_PREFIX = 64


@dataclass(frozen=True, slots=True)
class Bucket:
    """Attempts that are counted together, and how many there may be."""

    key: bytes
    limit: int

    @classmethod
    def of(cls, limit: int, *parts: str) -> "Bucket":
        """A bucket by what its attempts have in common; the key's length does not depend on what a client sends."""
        digest = hashlib.sha256()
        for part in parts:
            encoded = part.encode(errors="surrogatepass")
            digest.update(len(encoded).to_bytes(8) + encoded)
        return cls(digest.digest(), limit)


def buckets(address: str, name: str, device: str | None) -> tuple[Bucket, ...]:
    """Buckets of an attempt. Always in this order, so that concurrent transactions cannot deadlock."""
    if device is not None:
        return (Bucket.of(PER_DEVICE, "device", device),)
    network = _network(address)
    return (
        Bucket.of(PER_ADDRESS, "address", network),
        Bucket.of(PER_ADDRESS_AND_NAME, "address and name", network, name),
        Bucket.of(PER_NAME, "name", name),
    )


class Attempts:
    """The table of attempts."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._until_eviction = 0

    def admit(self, counted: tuple[Bucket, ...]) -> bool:
        """Count an attempt before it is made; False if a bucket is full, and then it counts nowhere."""
        self._evict_sometimes()
        with transaction(self._engine) as connection:
            counting = connection.begin_nested()
            admitted = all(_count(connection, bucket) for bucket in counted)
            if not admitted:
                counting.rollback()
            return admitted

    def forgive(self, counted: tuple[Bucket, ...]) -> None:
        """Take back an attempt that was successful."""
        with transaction(self._engine) as connection:
            for bucket in counted:
                row = login_attempts.c.bucket == bucket.key
                connection.execute(
                    sa.update(login_attempts).where(row).values(attempts=sa.func.greatest(0, _attempts() - 1))
                )

    def evict(self) -> None:
        """Remove buckets that are empty again, and beyond the maximum those that would be so first."""
        with transaction(self._engine) as connection:
            expired = login_attempts.c.expires_at < sa.func.now()
            beyond = sa.select(login_attempts.c.bucket).order_by(login_attempts.c.expires_at.desc())
            for doomed in (
                sa.select(login_attempts.c.bucket).where(expired),
                sa.select(login_attempts.c.bucket).where(
                    login_attempts.c.bucket.in_(beyond.offset(MAXIMUM_BUCKETS).scalar_subquery())
                ),
            ):
                rows = doomed.with_for_update(skip_locked=True).scalar_subquery()
                connection.execute(sa.delete(login_attempts).where(login_attempts.c.bucket.in_(rows)))

    def _evict_sometimes(self) -> None:
        self._until_eviction -= 1
        if self._until_eviction < 0:
            self._until_eviction = EVICTION_INTERVAL
            self.evict()


def _count(connection: sa.Connection, bucket: Bucket) -> bool:
    """Count an attempt in a bucket, unless it is full."""
    # By the database's clock, which all webservers share.
    expired = login_attempts.c.expires_at < sa.func.now()
    new = {"bucket": bucket.key, "attempts": 1, "expires_at": sa.func.now() + WINDOW}
    statement = insert(login_attempts).values(new)
    counted = connection.execute(
        statement.on_conflict_do_update(
            index_elements=["bucket"],
            set_={
                "attempts": sa.case((expired, 1), else_=_attempts() + 1),
                "expires_at": sa.case((expired, statement.excluded.expires_at), else_=login_attempts.c.expires_at),
            },
            where=sa.or_(expired, _attempts() < bucket.limit),
        )
    )
    return bool(counted.rowcount)


def _attempts() -> sa.ColumnElement[int]:
    return login_attempts.c.attempts


def _network(address: str) -> str:
    """What counts as one address; a proxy may also pass on something that is none."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((int(parsed), IPV6_PREFIX), strict=False))
    return str(parsed)
