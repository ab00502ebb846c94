"""Tables of the login in Dagster's database, and their upgrade.

`users` is the table of dagster-authkit, taken over with its rows; the columns of single sign-on are added to it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.engine import URL

from sync_pipeline.warehouse import database
from sync_pipeline.webserver.login.errors import LoginSettingsError, LoginUnavailableError

APPLICATION = "sync_pipeline login"
STATEMENT_TIMEOUT_MS = 10_000
# Webservers that start at the same time upgrade one after the other.
_UPGRADE_LOCK = 72_191_605

metadata = sa.MetaData()
users = sa.Table(
    "users",
    metadata,
    sa.Column("username", sa.String(255), primary_key=True),
    sa.Column("password_hash", sa.String(255), nullable=False),
    sa.Column("role", sa.Integer, nullable=False),
    sa.Column("email", sa.String(255)),
    sa.Column("full_name", sa.String(255)),
    sa.Column("is_active", sa.Boolean, nullable=False),
    sa.Column("created_at", sa.DateTime, nullable=False),
    sa.Column("last_login", sa.DateTime),
    # A session is valid as long as it has the version of its user.
    sa.Column("session_version", sa.Integer, nullable=False, server_default="1"),
    # Set for users of single sign-on, who have no password.
    sa.Column("oidc_issuer", sa.Text),
    sa.Column("oidc_subject", sa.Text),
)
login_attempts = sa.Table(
    "login_attempts",
    metadata,
    # A hash: what people type into the name field is sometimes a password.
    sa.Column("bucket", sa.LargeBinary, primary_key=True),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False, index=True),
)


def connect(url: URL) -> sa.Engine:
    """An engine whose connections are checked before use. Raises `SyncPipelineError` if the database is not there."""
    database.connect(url, database.DAGSTER_VARIABLE).dispose()
    return sa.create_engine(
        url,
        pool_pre_ping=True,
        pool_size=2,
        # Names and password hashes stay out of error messages.
        hide_parameters=True,
        connect_args={
            "connect_timeout": database.CONNECT_TIMEOUT_S,
            "application_name": APPLICATION,
            "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS}",
        },
    )


def upgrade(engine: sa.Engine) -> None:
    """Create tables and columns that are missing; this may be done any number of times, by several processes.

    Raises `SyncPipelineError` where the database is away, or its role may not change the tables.
    """
    refused = False
    try:
        with transaction(engine) as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
            _create_missing(connection)
    except sa.exc.ProgrammingError:
        refused = True
    if refused:
        raise LoginSettingsError(
            database.DAGSTER_VARIABLE,
            f"must name a role that owns the tables {users.name} and {login_attempts.name}, or may create them",
        )


def _create_missing(connection: sa.Connection) -> None:
    metadata.create_all(connection)
    present = {column["name"] for column in sa.inspect(connection).get_columns(users.name)}
    for column in users.columns:
        if column.name not in present:
            definition = sa.schema.CreateColumn(column).compile(dialect=connection.dialect)
            connection.execute(sa.text(f"ALTER TABLE {users.name} ADD COLUMN {definition}"))
    connection.execute(
        sa.text("CREATE UNIQUE INDEX IF NOT EXISTS users_oidc_subject ON users (oidc_issuer, oidc_subject)")
    )


@contextmanager
def transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction; raises `LoginUnavailableError` where the database is away, without the driver's own error."""
    unavailable = False
    try:
        with engine.begin() as connection:
            yield connection
    except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError):
        unavailable = True
    if unavailable:
        raise LoginUnavailableError


def is_available(engine: sa.Engine) -> bool:
    """Whether the database answers."""
    try:
        with transaction(engine) as connection:
            connection.execute(sa.select(1))
    except LoginUnavailableError:
        return False
    return True
