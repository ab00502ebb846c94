"""The webserver behind its login: who may do what, by every way in, and what the log says of it."""

import importlib.util
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import create_connection
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright
from sqlalchemy.engine import URL

if importlib.util.find_spec("authlib") is None:
    pytest.skip("the extra `auth` is not installed", allow_module_level=True)

from dagster_graphql.schema import create_schema
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from sync_pipeline.webserver import main
from sync_pipeline.webserver.graphql_request import GraphQLRequest, InvalidGraphQLRequestError
from sync_pipeline.webserver.login.storage import APPLICATION
from sync_pipeline_tests.cli.shell import query
from sync_pipeline_tests.cli.ui import LAUNCH, REPOSITORY, START, TERMINATE
from sync_pipeline_tests.webserver.roles_ui import (
    NOBODY,
    SECRET_KEY,
    SERVICE_TOKEN,
    USERS,
    Guarded,
    guarded_webserver,
    password,
)

pytestmark = pytest.mark.slow

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
LOCATION = "locations/sync_pipeline"
PATIENCE_MS = 60_000

# What a launcher does, in the words of the project: launch, cancel, and try a schedule out.
OF_LAUNCHERS = {
    "launchRun",
    "launchPipelineExecution",
    "launchMultipleRuns",
    "launchRunReexecution",
    "launchPipelineReexecution",
    "launchPartitionBackfill",
    "resumePartitionBackfill",
    "reexecutePartitionBackfill",
    "cancelPartitionBackfill",
    "terminateRun",
    "terminatePipelineExecution",
    "terminateRuns",
    "scheduleDryRun",
}
MUTATIONS = sorted(create_schema().graphql_schema.mutation_type.fields)
STOP = "mutation stop($id: String!) { stopRunningSchedule(id: $id) { __typename } }"
PERMISSIONS = """query ($id: String!) {
  permissions { permission value }
  workspaceLocationEntryOrError(name: $id) { ... on WorkspaceLocationEntry { permissions { permission value } } }
}"""


@pytest.fixture(scope="module")
def guarded(server: URL, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    with guarded_webserver(server, folder) as guarded:
        yield guarded


READ = "/ /runs /server_info /dagit_info /notebook /logs/a/compute_logs/b.out /download_debug/1 /auth/metrics /auth/"
ODDLY = "/auth/../graphql /static/x /_next/static //auth/login /auth/login/ /graphql/?query={version}"


@pytest.mark.parametrize("path", [*READ.split(), *ODDLY.split(), "/report_asset_check/lumina/pos_orders"])
def test_nobody_reads_anything_without_a_login(guarded: Guarded, path: str) -> None:
    answer = raw(guarded, f"GET {path}")
    assert answer.startswith("HTTP/1.1 302")
    assert "location: /auth/login?next=/" in answer
    assert "content-length: 0" in answer


def test_a_host_that_looks_like_the_login_page_opens_nothing(guarded: Guarded) -> None:
    for host in ("x/auth/login?", "x/auth/login#"):
        assert raw(guarded, "GET /runs", host=host).startswith("HTTP/1.1 403")


def test_what_is_open_to_nobody_is_the_login_page_and_health(guarded: Guarded) -> None:
    assert guarded.ask(NOBODY, "GET", "/auth/health?type=ready").json() == {"ready": True}
    page = guarded.ask(NOBODY, "GET", "/auth/login")
    assert "Sign in to Dagster" in page.text
    assert guarded.ask(NOBODY, "POST", "/auth/login").status_code == 403


def test_every_mutation_of_dagster_is_refused_to_whom_it_is_not_for(guarded: Guarded) -> None:
    refused: dict[str, set[str]] = {}
    for user, role in {NOBODY: NOBODY, **USERS}.items():
        # Without its arguments none of them does anything, but it is asked for all the same.
        answers = {name: guarded.graphql(user, f"mutation {{ {name} }}").status_code for name in MUTATIONS}
        refused[role] = {name for name, status in answers.items() if status in (401, 403)}
        assert all(answers[name] == (401 if user == NOBODY else 403) for name in refused[role])
    assert len(MUTATIONS) > 40
    assert refused == {
        NOBODY: set(MUTATIONS),
        "viewer": set(MUTATIONS),
        "launcher": set(MUTATIONS) - OF_LAUNCHERS,
        "admin": set(),
    }


def test_dagster_itself_grants_each_role_no_more_than_it_is_for(guarded: Guarded) -> None:
    granted = {}
    for user, role in USERS.items():
        data = guarded.graphql(user, PERMISSIONS, id="sync_pipeline").json()["data"]
        everywhere = {each["permission"] for each in data["permissions"] if each["value"]}
        here = {each["permission"] for each in data["workspaceLocationEntryOrError"]["permissions"] if each["value"]}
        assert here <= everywhere
        granted[role] = everywhere
        granted[f"{role}, in the code location"] = here
    launching = {
        "launch_pipeline_execution",
        "launch_pipeline_reexecution",
        "launch_partition_backfill",
        "cancel_partition_backfill",
        "terminate_pipeline_execution",
        "schedule_dry_run",
    }
    assert granted["viewer"] == granted["viewer, in the code location"] == set()
    assert granted["launcher"] == granted["launcher, in the code location"] == launching
    assert granted["admin"] > launching | {"start_schedule", "reload_workspace", "wipe_assets", "edit_sensor"}


def ways_in(stop: str) -> dict[str, tuple[str, str, dict[str, Any], tuple[int, int, int]]]:
    """Ways to ask for the mutation `stop`, and what nobody, a viewer and a launcher are answered."""
    named = stop.replace("mutation", "mutation b", 1)
    aliased = stop.replace("stopRunningSchedule", "version: stopRunningSchedule")
    spread = f"mutation {{ ...f }} fragment f on Mutation {stop.removeprefix('mutation')}"
    inline = f"mutation {{ ... on Mutation {stop.removeprefix('mutation')} }}"
    harmless = json.dumps({"query": "{ version }"})
    twice = f'{{"query": "{{ version }}", "query": {json.dumps(stop)}}}'
    utf16 = json.dumps({"query": stop}).encode("utf-16")
    as_json = {"Content-Type": "application/json"}
    refused, unreadable, no_way = (401, 403, 403), (401, 400, 400), (401, 405, 405)
    page = (302, 405, 405)
    return {
        "as the UI": ("POST", "/graphql", {"json": {"query": stop}}, refused),
        "under an alias": ("POST", "/graphql", {"json": {"query": aliased}}, refused),
        "in a fragment": ("POST", "/graphql", {"json": {"query": spread}}, refused),
        "in an inline fragment": ("POST", "/graphql", {"json": {"query": inline}}, refused),
        "beside a mutation that is allowed": (
            "POST",
            "/graphql",
            {"json": {"query": f'mutation {{ terminateRun(runId: "x") {{ __typename }} {stop.partition("{")[2]}'}},
            refused,
        ),
        "as one of two operations": (
            "POST",
            "/graphql",
            {"json": {"query": f"query a {{ version }} {named}", "operationName": "b"}},
            refused,
        ),
        "as an operation that is not named": (
            "POST",
            "/graphql",
            {"json": {"query": f"query a {{ version }} {named}"}},
            unreadable,
        ),
        "in a batch": ("POST", "/graphql", {"json": [{"query": "{ version }"}, {"query": stop}]}, unreadable),
        "behind a harmless key": ("POST", "/graphql", {"data": twice, "headers": as_json}, refused),
        "in UTF-16": ("POST", "/graphql", {"data": utf16, "headers": as_json}, refused),
        "in the address": ("GET", "/graphql", {"params": {"query": stop}}, page),
        "in the address, by HEAD": ("HEAD", "/graphql", {"params": {"query": stop}}, page),
        # A browser is given the page of a GraphQL client, whatever the address says.
        "in the address, by a browser": (
            "GET",
            "/graphql",
            {"params": {"query": stop}, "headers": {"Accept": "text/html"}},
            (302, 200, 200),
        ),
        "in the address of a harmless text": (
            "POST",
            "/graphql",
            {"params": {"query": stop}, "data": harmless, "headers": {"Content-Type": "text/plain"}},
            no_way,
        ),
        "in the address of a form": ("POST", "/graphql", {"params": {"query": stop}, "data": {"query": "x"}}, no_way),
        "as application/graphql": (
            "POST",
            "/graphql",
            {"data": stop, "headers": {"Content-Type": "application/graphql"}},
            no_way,
        ),
        "by PUT": ("PUT", "/graphql", {"json": {"query": stop}}, no_way),
        "by OPTIONS": ("OPTIONS", "/graphql", {"json": {"query": stop}}, no_way),
        "beside the path": ("POST", "/graphql/", {"json": {"query": stop}}, no_way),
        "a materialization": ("POST", "/report_asset_materialization/lumina/pos_orders", {}, refused),
        "an observation": ("POST", "/report_asset_observation/lumina/pos_orders", {}, refused),
        "a check": (
            "POST",
            "/report_asset_check/lumina/pos_orders",
            {"params": {"check_name": "orders_all_stored", "passed": "true"}},
            refused,
        ),
    }


def test_no_way_in_leads_a_viewer_or_a_launcher_to_what_is_an_admins(guarded: Guarded) -> None:
    schedule, status = guarded.schedule()
    before = status, guarded.runs(), guarded.events()
    assert status == "RUNNING"
    ways = ways_in(f"mutation {{ stopRunningSchedule(id: {json.dumps(schedule)}) {{ __typename }} }}")
    answered = {
        way: tuple(guarded.ask(user, method, path, **how).status_code for user in (NOBODY, "vic", "lee"))
        for way, (method, path, how, _) in ways.items()
    }
    assert answered == {way: expected for way, (_, _, _, expected) in ways.items()}
    assert (guarded.schedule()[1], guarded.runs(), guarded.events()) == before


def test_a_websocket_opens_for_who_is_logged_in_and_runs_no_mutation(guarded: Guarded) -> None:
    schedule, _ = guarded.schedule()
    with pytest.raises(InvalidStatus) as refused, websocket(guarded, {}):
        pass
    assert refused.value.response.status_code == 403
    for user in USERS:
        with websocket(guarded, {"Cookie": guarded.cookie(user)}) as socket:
            payload = {"query": STOP, "variables": {"id": schedule}}
            socket.send(json.dumps({"type": "start", "id": "1", "payload": payload}))
            assert json.loads(socket.recv(30))["type"] == "error"
    assert guarded.schedule() == (schedule, "RUNNING")


def test_a_launcher_launches_and_terminates_and_a_viewer_does_neither(guarded: Guarded) -> None:
    before = guarded.runs()
    assert guarded.launch("vic").status_code == 403
    assert guarded.runs() == before

    launched = guarded.launch("lee").json()["data"]["launchRun"]
    run_id = launched["run"]["id"]
    assert guarded.runs() == [*before, (run_id, "QUEUED")]
    assert guarded.graphql("vic", TERMINATE, id=run_id).status_code == 403
    assert (
        guarded.graphql(
            "lee", "mutation ($id: String!) { deleteRun(runId: $id) { __typename } }", id=run_id
        ).status_code
        == 403
    )
    assert guarded.runs() == [*before, (run_id, "QUEUED")]
    ended = guarded.graphql("lee", TERMINATE, id=run_id).json()["data"]
    assert ended == {"terminateRun": {"__typename": "TerminateRunSuccess"}}
    assert guarded.runs() == [*before, (run_id, "CANCELED")]


def test_a_launcher_starts_and_cancels_a_backfill_and_a_viewer_does_neither(guarded: Guarded) -> None:
    days = {"assetSelection": [{"path": ["lumina", "pos_orders"]}], "partitionNames": ["2026-10-05", "2026-10-06"]}
    backfills = "SELECT key, status FROM bulk_actions"
    assert guarded.graphql("vic", LAUNCH, params=days).status_code == 403
    assert query(guarded.storage, backfills) == []
    launched = guarded.graphql("lee", LAUNCH, params=days).json()["data"]["launchPartitionBackfill"]
    assert query(guarded.storage, backfills) == [(launched["backfillId"], "REQUESTED")]
    cancel = "mutation ($backfillId: String!) { cancelPartitionBackfill(backfillId: $backfillId) { __typename } }"
    assert guarded.graphql("vic", cancel, backfillId=launched["backfillId"]).status_code == 403
    assert query(guarded.storage, backfills) == [(launched["backfillId"], "REQUESTED")]
    ended = guarded.graphql("lee", cancel, backfillId=launched["backfillId"]).json()["data"]
    assert ended == {"cancelPartitionBackfill": {"__typename": "CancelBackfillSuccess"}}
    assert guarded.audit[-1]["target"] == {"backfillId": launched["backfillId"]}


def test_the_audit_log_names_user_role_action_and_what_it_was_about(guarded: Guarded) -> None:
    guarded.graphql("vic", STOP, id="a-schedule's-id")
    run_id = guarded.launch("lee").json()["data"]["launchRun"]["run"]["id"]
    guarded.graphql("ada", TERMINATE, id=run_id)
    of = ("user", "role", "name", "target", "outcome", "address")
    job = {"repositoryLocationName": "sync_pipeline", "jobName": "lumina__meta_only"}
    assert [tuple(entry[key] for key in of) for entry in guarded.audit[-3:]] == [
        ("vic", "viewer", "stopRunningSchedule", {"id": "a-schedule's-id"}, "refused", "127.0.0.1"),
        ("lee", "launcher", "launchRun", job, "allowed", "127.0.0.1"),
        ("ada", "admin", "terminateRun", {"runId": run_id}, "allowed", "127.0.0.1"),
    ]
    reads = len(guarded.audit)
    guarded.schedule()
    assert len(guarded.audit) == reads


def test_logins_are_audited_and_no_secret_is(guarded: Guarded) -> None:
    assert guarded.log_in("vic", using="not-his-password") is None
    assert guarded.log_in("nemo") is None
    assert guarded.log_in("vic") == "/"
    logins = [entry for entry in guarded.audit if entry["event"] == "sign_in"]
    of = ("user", "role", "outcome", "reason", "address")
    assert [tuple(entry.get(key) for key in of) for entry in logins[-3:]] == [
        ("vic", None, "refused", "wrong name or password", "127.0.0.1"),
        ("nemo", None, "refused", "wrong name or password", "127.0.0.1"),
        ("vic", "viewer", "allowed", None, "127.0.0.1"),
    ]
    assert {"event": "user_added", "target": "lee", "target_role": "launcher"}.items() <= next(
        entry.items() for entry in guarded.audit if entry.get("target") == "lee"
    )
    tokens = [cookie.partition("=")[2] for cookie in map(guarded.cookie, USERS)]
    for secret in (*map(password, USERS), "not-his-password", SECRET_KEY, SERVICE_TOKEN, "p@ss/w%", "p%40ss", *tokens):
        assert secret not in guarded.log


def test_the_session_is_a_cookie_for_tls_alone_that_no_script_reads(guarded: Guarded) -> None:
    assert {"Secure", "HttpOnly", "SameSite=lax"} <= set(guarded.sessions["vic"].split("; "))
    assert "Secure" in guarded.ask(NOBODY, "GET", "/auth/login").headers["set-cookie"]
    assert query(guarded.storage, "SELECT count(*) FROM users WHERE password_hash LIKE '$argon2id$%'") == [
        (len(USERS),)
    ]


def test_a_program_asks_with_the_token_of_the_environment(guarded: Guarded) -> None:
    token = {"Dagster-Cloud-Api-Token": SERVICE_TOKEN}
    asked = {"json": {"query": "{ version }"}}
    assert guarded.ask(NOBODY, "POST", "/graphql", token, **asked).status_code == 200
    assert guarded.ask(NOBODY, "POST", "/graphql", {"Dagster-Cloud-Api-Token": "no"}, **asked).status_code == 401
    reload = {"json": {"query": "mutation { reloadWorkspace { __typename } }"}}
    # Its role is a viewer's unless the environment says otherwise.
    assert guarded.ask(NOBODY, "POST", "/graphql", token, **reload).status_code == 403


def test_who_signs_out_is_out_wherever_the_cookie_still_is(guarded: Guarded) -> None:
    version = "SELECT session_version FROM users WHERE username = 'lee'"
    [before] = query(guarded.storage, version)
    assert guarded.ask("lee", "GET", "/auth/logout").status_code == 200
    assert guarded.graphql("lee", "{ version }").status_code == 200
    assert guarded.sign_out("lee") == "/auth/login"
    assert guarded.graphql("lee", "{ version }").status_code == 401
    # This is what a webserver started anew would look at.
    assert query(guarded.storage, version) == [(int(str(before[0])) + 1,)]
    assert guarded.log_in("lee") == "/"
    assert guarded.graphql("lee", "{ version }").status_code == 200


def test_a_changed_role_counts_at_once(guarded: Guarded) -> None:
    guarded.manage("change-role", "vic", "launcher")
    assert guarded.graphql("vic", "{ version }").status_code == 401
    assert guarded.log_in("vic") == "/"
    assert guarded.launch("vic").status_code == 200
    guarded.manage("change-role", "vic", "viewer")
    assert guarded.log_in("vic") == "/"
    assert guarded.launch("vic").status_code == 403


def test_logins_go_on_after_postgres_was_away(guarded: Guarded) -> None:
    cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{APPLICATION}'"
    assert query(guarded.storage, cut)
    assert guarded.log_in("ada") == "/"
    assert guarded.graphql("lee", "{ version }").status_code == 200


SOME = st.sampled_from(["launchRun", "wipeAssets", "reloadWorkspace"])


@given(st.lists(SOME, min_size=1), st.data())
def test_the_mutations_of_a_document_are_found_however_they_are_nested(names: list[str], data: st.DataObject) -> None:
    selections, fragments = "", ""
    for number, name in enumerate(names):
        form = data.draw(
            st.sampled_from(
                [
                    *("{}", "a: {}", "... on Mutation {{ {} }}", "...f{n} ", "... @skip(if: false) {{ {} }}"),
                    *("... on Mutation {{ ...f{n} }}", "... {{ ... {{ a: {} }} }}"),
                ]
            )
        )
        selections += form.format(name, n=number) + " "
        fragments += f" fragment f{number} on Mutation {{ b: {name} ...f{number} }}"
    operation = data.draw(st.sampled_from([None, "m"]))
    document = f"query q {{ version }} mutation m {{ {selections} }}" if operation else f"mutation {{ {selections} }}"
    assert list(GraphQLRequest.from_query(document + fragments, operation).mutations) == names


@pytest.mark.parametrize(
    "document",
    [
        "mutation { ... on Mutation { ...f } } fragment f on Mutation { wipeAssets }",
        "mutation { ... { ...f } } fragment f on Mutation { ... { ...g } } fragment g on Mutation { wipeAssets }",
        "mutation { ...f ... { ...f } } fragment f on Mutation { wipeAssets ... on Mutation { ...f } }",
    ],
)
def test_a_spread_inside_an_inline_fragment_is_followed(document: str) -> None:
    assert GraphQLRequest.from_query(document).mutations == ("wipeAssets",)


CHAINED = "mutation { ...f0 } " + " ".join(f"fragment f{n} on M {{ ...f{n + 1} }}" for n in range(1500))


@pytest.mark.parametrize("document", ["", "mutation {", "query a { version } query b { version }", "{" * 5000, CHAINED])
def test_a_document_that_dagster_would_not_run_is_not_let_through(document: str) -> None:
    with pytest.raises(InvalidGraphQLRequestError):
        GraphQLRequest.from_query(document).mutations  # noqa: B018
    assert GraphQLRequest.from_query("{ version }").mutations == ()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DAGSTER_AUTH_SECRET_KEY", "too short"),
        ("DAGSTER_POSTGRES_URL", ""),
        ("DAGSTER_POSTGRES_URL", "mysql://u:hidden@h/d"),
        ("DAGSTER_POSTGRES_URL", "postgresql://u:hidden@h"),
        ("DAGSTER_POSTGRES_URL", "postgresql://u:with@hidden@h/d"),
        ("DAGSTER_AUTH_SERVICE_TOKEN", "too short"),
    ],
)
def test_without_its_settings_it_does_not_start(
    variable: str,
    value: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAGSTER_AUTH_SECRET_KEY", SECRET_KEY)
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert variable in line
    assert "hidden" not in line
    assert "too short" not in line


@pytest.fixture(scope="module")
def browser(guarded: Guarded) -> Iterator[BrowserContext]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here: install Debian's package `chromium`")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        switches = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=switches)
        context = browser.new_context(base_url=guarded.address, viewport={"width": 1500, "height": 950})
        context.route(lambda url: not url.startswith(guarded.address), lambda route: route.abort())
        yield context
        browser.close()


@contextmanager
def page_of(user: str, browser: BrowserContext, path: str) -> Iterator[Page]:
    """A page that somebody opened at `path`, having logged in where they were led."""
    browser.clear_cookies()
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(path)
    expect(page).to_have_title("Sign in to Dagster")
    if user != NOBODY:
        page.locator("input[name=username]").fill(user)
        page.locator("input[name=password]").fill(password(user))
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("link", name=f"Sign out {user}")).to_be_visible()
    yield page
    page.close()


def ask_from(page: Page, document: str, **variables: Any) -> int:
    """The status of a mutation sent by a script of the page, as its buttons send theirs."""
    script = """async body => (await fetch("/graphql", {
        method: "POST", headers: {"Content-Type": "application/json"}, body
    })).status"""
    return int(page.evaluate(script, json.dumps({"query": document, "variables": variables})))


def test_in_a_browser_nobody_gets_beyond_the_login(browser: BrowserContext, guarded: Guarded) -> None:
    with page_of(NOBODY, browser, "/assets/lumina/pos_orders") as page:
        page.locator("input[name=username]").fill("ada")
        page.locator("input[name=password]").fill("a guess")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_text("Wrong user name or password.")).to_be_visible()
        # Its scripts may not connect to anything, so not as `ask_from` does.
        assert page.request.post("/graphql", data={"query": "{ version }"}).status == 401
        page.goto("/runs")
        expect(page).to_have_title("Sign in to Dagster")


def test_in_a_browser_a_viewer_changes_nothing(browser: BrowserContext, guarded: Guarded) -> None:
    run_id = guarded.launch("lee").json()["data"]["launchRun"]["run"]["id"]
    before = guarded.schedule(), guarded.runs()
    schedule = before[0][0]
    with page_of("vic", browser, f"/{LOCATION}/schedules/lumina__daily_sync_schedule") as page:
        expect(page.locator("input[type=checkbox]")).to_be_checked()
        expect(page.locator("input[type=checkbox]")).to_be_disabled()
        page.goto("/assets/lumina/pos_orders?view=partitions")
        expect(page.get_by_role("button", name="Materialize…")).to_be_disabled()
        page.goto("/locations")
        expect(page.get_by_role("button", name="Reload all")).to_be_disabled()
        page.goto(f"/runs/{run_id}")
        expect(page.get_by_text("Queued").first).to_be_visible()
        expect(page.get_by_role("button", name="Terminate")).to_be_disabled()

        # Buttons are one thing, the server another.
        launch = {"selector": {**REPOSITORY, "jobName": "lumina__meta_only"}, "mode": "default"}
        assert ask_from(page, START, params=launch) == 403
        assert ask_from(page, TERMINATE, id=run_id) == 403
        assert ask_from(page, STOP, id=schedule) == 403
        assert ask_from(page, "mutation { reloadWorkspace { __typename } }") == 403
        assert ask_from(page, "{ version }") == 200
    assert (guarded.schedule(), guarded.runs()) == before


def test_in_a_browser_a_launcher_launches_and_terminates(browser: BrowserContext, guarded: Guarded) -> None:
    before = guarded.runs()
    with page_of("lee", browser, f"/{LOCATION}/jobs/lumina__meta_only/playground") as page:
        page.get_by_role("button", name="Launch Run").click()
        page.get_by_role("button", name="Confirm").click()
        page.wait_for_url("**/runs/*")
        [*rest, (run_id, status)] = guarded.runs()
        assert (rest, status) == (before, "QUEUED")
        page.get_by_role("button", name="Terminate").click()
        page.get_by_role("dialog").get_by_role("button", name="Terminate").click()
        expect(page.get_by_text("Canceled").first).to_be_visible()
        assert guarded.runs() == [*before, (run_id, "CANCELED")]

        page.goto(f"/{LOCATION}/schedules/lumina__daily_sync_schedule")
        expect(page.locator("input[type=checkbox]")).to_be_disabled()
        assert ask_from(page, STOP, id=guarded.schedule()[0]) == 403
    assert guarded.schedule()[1] == "RUNNING"


def test_in_a_browser_an_admin_switches_a_schedule_and_reloads(browser: BrowserContext, guarded: Guarded) -> None:
    with page_of("ada", browser, f"/{LOCATION}/schedules/lumina__daily_sync_schedule") as page:
        switch = page.locator("input[type=checkbox]")
        for checked, status in ((False, "STOPPED"), (True, "RUNNING")):
            expect(switch).to_be_checked(checked=not checked)
            switch.locator("xpath=..").click()
            expect(switch).to_be_checked(checked=checked)
            wait_until(lambda wanted=status: guarded.schedule()[1] == wanted)  # type: ignore[misc]
        page.goto("/locations")
        page.get_by_role("button", name="Reload all").click()
        wait_until(lambda: [e["user"] for e in guarded.audit if e.get("name") == "reloadWorkspace"][-1:] == ["ada"])


def raw(guarded: Guarded, request: str, host: str = "127.0.0.1") -> str:
    """What is answered to a request as it stands; a client would tidy the address up."""
    address = urlsplit(guarded.address)
    with create_connection((str(address.hostname), int(str(address.port))), timeout=30) as connection:
        connection.sendall(f"{request} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


def websocket(guarded: Guarded, headers: dict[str, str]) -> ClientConnection:
    address = f"{guarded.address.replace('http', 'ws')}/graphql"
    return connect(address, subprotocols=[Subprotocol("graphql-ws")], additional_headers=headers, proxy=None)


def wait_until(come_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not come_true():
        assert time.monotonic() < deadline
        time.sleep(0.5)
