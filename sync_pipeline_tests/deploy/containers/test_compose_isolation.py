"""Who reaches a code server, which has no authentication of its own."""

import pytest

from sync_pipeline_tests.deploy.containers.installation import Installation

pytestmark = pytest.mark.containers

HEALTH = ("dagster", "api", "grpc-health-check", "-s", "/run/sync_pipeline/sync_pipeline.sock")
# Hexadecimal addresses of sockets that listen, without the engine's own name server.
LISTENING = "awk '$4 == \"0A\" && $2 !~ /^0B00007F/ { print $2 }' /proc/net/tcp /proc/net/tcp6"
CONNECT = """
import socket, sys
for address in sys.argv[1:]:
    try:
        socket.create_connection((address, 4000), timeout=3)
    except OSError as error:
        print(address, type(error).__name__)
    else:
        sys.exit(f"{address} answers on port 4000")
"""


def addresses(installation: Installation) -> dict[str, str]:
    """The addresses of the code server's container, by network."""
    networks = installation.inspect("code")["NetworkSettings"]["Networks"]
    return {name: network["IPAddress"] for name, network in networks.items()}


@pytest.mark.parametrize("network", ["inside", "outside", "front"])
def test_no_network_leads_to_a_code_server(whole: Installation, network: str) -> None:
    done = whole.engine.docker(
        "run", "--rm", "--network", f"{whole.project}_{network}", "--entrypoint", "python", whole.image,
        "-c", CONNECT, *addresses(whole).values(), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(addresses(whole))


def test_a_code_server_listens_on_no_port(whole: Installation) -> None:
    assert whole.execute("code", "sh", "-c", LISTENING).stdout == ""
    # The search finds ports where there are any.
    assert whole.execute("webserver", "sh", "-c", LISTENING).stdout == "00000000:0BB8\n"


@pytest.mark.parametrize("service", ["code", "daemon", "webserver"])
def test_its_clients_reach_a_code_server(whole: Installation, service: str) -> None:
    assert whole.execute(service, *HEALTH).returncode == 0


def test_postgres_does_not_see_the_socket(whole: Installation) -> None:
    assert whole.execute("postgres", "test", "-e", "/run/sync_pipeline", check=False).returncode == 1


def test_code_reaches_the_outside_and_the_others_do_not(whole: Installation) -> None:
    # The sandbox is in the network in which code reaches the APIs.
    script = "import socket; socket.create_connection(('sandbox', 8000), timeout=5)"
    assert whole.execute("code", "python", "-c", script).returncode == 0
    for service in ("daemon", "webserver"):
        assert whole.execute(service, "python", "-c", script, check=False).returncode != 0
