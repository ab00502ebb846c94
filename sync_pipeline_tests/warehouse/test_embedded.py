"""The embedded server is for this machine alone."""

import sqlalchemy as sa
from sqlalchemy.engine import URL

from sync_pipeline_tests.pipeline import all_seeing


def test_it_listens_on_a_socket_of_this_machine_only(server: URL) -> None:
    assert server.host is None
    assert str(server.query["host"]).startswith("/")
    engine = sa.create_engine(all_seeing(server))
    with engine.connect() as connection:
        assert connection.execute(sa.text("SHOW listen_addresses")).scalar_one() == ""
        assert connection.execute(sa.text("SHOW unix_socket_directories")).scalar_one() == server.query["host"]
    engine.dispose()
