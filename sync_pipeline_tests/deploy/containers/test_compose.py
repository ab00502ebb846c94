"""deploy/compose.yaml on a container engine: a login, a tenant that is added, a run, and what each container knows."""

from datetime import UTC, datetime, timedelta

import pytest
import requests

from sync_pipeline_tests.deploy import compose
from sync_pipeline_tests.deploy.browser import wait_for
from sync_pipeline_tests.deploy.containers.installation import Installation
from sync_pipeline_tests.waiting import wait_until
from sync_pipeline_tests.webserver.roles_ui import form_cookie, form_token

pytestmark = pytest.mark.containers

PASSWORD = "correct horse battery staple"
LOCATION = "sync_pipeline"
OURS = ("code", "daemon", "webserver")
SERVICES = ("postgres", *OURS)

# Everything that the processes of a container can read of each other, and all files but those of the engine and kernel.
READ_EVERYTHING = """
cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null
find / -xdev -type f -not -path '/proc/*' -not -path '/sys/*' -not -path '/opt/*' -not -path '/usr/*' \
  -exec cat {} + 2>/dev/null
for folder in /run/secrets /etc/sync_pipeline; do find $folder -type f -exec cat {} + 2>/dev/null; done
"""


def yesterday() -> str:
    return str(datetime.now(UTC).date() - timedelta(days=2))


def test_a_user_signs_in_with_a_password(whole: Installation) -> None:
    added = whole.compose(
        "run", "--rm", "-T", "webserver", "sync-pipeline-webserver", "add-user", "ana", "--admin", "--password-stdin",
        text=f"{PASSWORD}\n",
    )  # fmt: skip
    assert "Added user 'ana'" in added.stdout
    url = f"http://{whole.address('webserver', 3000)}"
    with requests.Session() as session:
        session.trust_env = False
        anonymous = session.get(f"{url}/runs", timeout=60, allow_redirects=False)
        assert anonymous.headers["location"].startswith("/auth/login")
        page = session.get(f"{url}/auth/login", timeout=60)
        form = {"username": "ana", "password": PASSWORD, "next": "/", "csrf_token": form_token(page)}
        # The cookies are for TLS, so the session does not send them to this address.
        cookie = {"Cookie": form_cookie(page)}
        signed_in = session.post(f"{url}/auth/login", data=form, headers=cookie, timeout=60, allow_redirects=False)
        assert signed_in.is_redirect, (signed_in.status_code, signed_in.text[-2000:])
        asked = {"query": "{ runsOrError { ... on Runs { results { id } } } }"}
        cookie = {"Cookie": form_cookie(signed_in)}
        answer = session.post(f"{url}/graphql", json=asked, headers=cookie, timeout=60)
        assert answer.status_code == 200, answer.text
        assert "errors" not in answer.json(), answer.text


def test_a_tenant_is_added_without_a_restart(whole: Installation) -> None:
    before = {service: whole.container(service) for service in SERVICES}
    began = whole.state("code")["StartedAt"]
    whole.add_tenant("berlin", "mekong")
    assert whole.compose("run", "--rm", "--no-deps", "-T", "cli", "check", "berlin", "--live").returncode == 0
    whole.compose("run", "--rm", "--no-deps", "-T", "cli", "reload")
    wait_for(lambda: whole.browser.job_names(LOCATION), lambda jobs: "berlin__daily_sync" in jobs)
    assert {service: whole.container(service) for service in SERVICES} == before
    assert whole.state("code")["StartedAt"] == began

    run = whole.browser.launch(LOCATION, "berlin__daily_sync", yesterday(), yesterday())
    assert whole.browser.wait(run) == "SUCCESS", whole.browser.said(run)
    for table, day in (("meta_ad_insights", "date"), ("pos_orders", "date_local")):
        [[count]] = whole.rows(f"SELECT count(*) FROM {table} WHERE tenant_id = 'berlin' AND {day} = '{yesterday()}'")
        assert int(count) > 0, table


@pytest.mark.parametrize("service", ["daemon", "webserver"])
def test_only_code_knows_tenants_and_warehouse(whole: Installation, service: str) -> None:
    markers = [whole.sandbox.environment["LUMINA_META_TOKEN"], whole.sandbox.environment["LUMINA_PANCAKE_KEY"]]
    warehouse = "5432/warehouse"

    def known(name: str) -> list[str]:
        # As root, who could read what the processes themselves cannot.
        command = ("docker", "exec", "--user", "0", whole.container(name), "sh", "-c", READ_EVERYTHING)
        read = whole.engine.docker(*command[1:], check=False).stdout
        return [marker for marker in (*markers, warehouse) if marker in read]

    # The search finds them where they are.
    assert known("code") == [*markers, warehouse]
    assert known(service) == []


@pytest.mark.parametrize("service", SERVICES)
def test_secrets_are_read_only(whole: Installation, service: str) -> None:
    container = whole.container(service)
    mounts = whole.inspect(service)["Mounts"]
    mounted = [mount["Destination"] for mount in mounts if mount["Type"] == "bind"]
    secrets = [path for path in mounted if path.startswith(("/run/secrets/", "/etc/sync_pipeline"))]
    assert secrets
    assert all(not mount["RW"] for mount in mounts if mount["Type"] == "bind")
    for path in secrets:
        # Root in the container is told so too.
        write = f'if [ -d "{path}" ]; then touch "{path}/new"; else echo x >>"{path}"; fi'
        done = whole.engine.docker("exec", "--user", "0", container, "sh", "-c", write, check=False)
        assert done.returncode != 0, path
        assert "Read-only file system" in done.stderr, (path, done.stderr)


def test_only_the_port_of_the_webserver_is_published(whole: Installation) -> None:
    published = {service: list(whole.inspect(service)["HostConfig"]["PortBindings"] or {}) for service in SERVICES}
    assert published == {"postgres": [], "code": [], "daemon": [], "webserver": ["3000/tcp"]}
    # On this machine alone: in the override only the number is another.
    [binding] = whole.inspect("webserver")["HostConfig"]["PortBindings"]["3000/tcp"]
    assert binding["HostIp"] == "127.0.0.1"
    declared = compose.document()["services"]["webserver"]["ports"]
    assert [str(port).rpartition(":")[0].split(":")[0] for port in declared] == ["127.0.0.1"]


@pytest.mark.parametrize("service", OURS)
def test_processes_have_no_privileges(whole: Installation, service: str) -> None:
    script = "cat /proc/1/status; id -u"
    status = whole.execute(service, "sh", "-c", script).stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["CapBnd"] == fields["CapEff"] == "0" * 16
    assert fields["NoNewPrivs"] == "1"
    assert status.splitlines()[-1] == "10001"


def test_services_are_healthy(whole: Installation) -> None:
    for service in SERVICES:
        wait_until(lambda name=service: whole.state(name)["Health"]["Status"], lambda status: status == "healthy")
    assert whole.state("migrate")["ExitCode"] == 0
