"""What is said of API version, token and access to data: the warning begins 60 days before the end, to the instant."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline.sources.errors import RateLimitedError, SourceError, TokenError, TransientError
from sync_pipeline.sources.meta import MetaClient
from sync_pipeline.sources.waits import Pacing
from sync_pipeline.sync import META
from sync_pipeline.sync.credentials import (
    OUTDATED_AFTER,
    WARN_BEFORE,
    Finding,
    Outlook,
    fetch_expiries,
    findings,
    version_finding,
)
from sync_pipeline.warehouse.credentials import CredentialExpiry, CredentialState, Subject

NOW = datetime(2026, 11, 28, 4, 0, tzinfo=UTC)
SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)
VERSION = "v26.0"
# The table's end of v25.0.
END = datetime(2027, 2, 23, tzinfo=UTC)

INSTANTS = st.integers(0, 6 * 366 * 24 * 60).map(lambda minutes: datetime(2024, 1, 1, tzinfo=UTC) + minutes * MINUTE)
EXPIRIES = st.builds(
    CredentialExpiry,
    source=st.just(META),
    subject=st.sampled_from(list(Subject)),
    state=st.sampled_from(list(CredentialState)),
    ends_at=st.none() | INSTANTS,
    checked_at=INSTANTS,
    version=st.sampled_from([None, "v25.0", "v26.0"]),
)


def expiry(
    subject: Subject = Subject.TOKEN,
    ends_at: datetime | None = None,
    state: CredentialState = CredentialState.VALID,
    checked_at: datetime = NOW,
    version: str | None = None,
) -> CredentialExpiry:
    return CredentialExpiry(META, subject, state, ends_at, checked_at, version)


def of(subject: Subject, found: list[Finding]) -> Finding:
    [finding] = [one for one in found if one.subject is subject and one.outlook is not Outlook.OUTDATED]
    return finding


@pytest.mark.parametrize("subject", [Subject.TOKEN, Subject.DATA_ACCESS])
@pytest.mark.parametrize(
    ("left", "outlook"),
    [
        (61 * DAY, Outlook.VALID),
        (60 * DAY + SECOND, Outlook.VALID),
        (60 * DAY, Outlook.ENDING),
        (SECOND, Outlook.ENDING),
        (0 * SECOND, Outlook.ENDED),
        (-DAY, Outlook.ENDED),
    ],
)
def test_the_warning_begins_60_days_before_the_end(subject: Subject, left: timedelta, outlook: Outlook) -> None:
    finding = of(subject, findings(VERSION, [expiry(subject, NOW + left)], NOW))
    assert (finding.outlook, finding.ends_at) == (outlook, NOW + left)
    assert finding.is_warning is (outlook is Outlook.ENDING)
    assert finding.is_problem is (outlook is Outlook.ENDED)


@pytest.mark.parametrize(
    ("now", "outlook"),
    [
        (END - 61 * DAY, Outlook.VALID),
        (END - 60 * DAY - SECOND, Outlook.VALID),
        (END - 60 * DAY, Outlook.ENDING),
        (END - SECOND, Outlook.ENDING),
        (END, Outlook.ENDED),
    ],
)
def test_a_version_is_warned_of_60_days_before_its_end(now: datetime, outlook: Outlook) -> None:
    assert version_finding("v25.0", now).outlook is outlook


def test_sentences_name_the_end_and_what_to_do() -> None:
    stored = [
        expiry(Subject.TOKEN, datetime(2027, 1, 15, 8, 30, tzinfo=UTC)),
        expiry(Subject.DATA_ACCESS, datetime(2026, 11, 20, tzinfo=UTC)),
    ]
    assert [one.sentence for one in findings("v24.0", stored, NOW)] == [
        "Meta's API version v24.0 ended on 2026-11-10; set meta.api_version in the tenant file to a newer one, such as "
        "v27.0",
        "the token expires on 2027-01-15 08:30 UTC, in 48 days; renew it, and put the new one where the tenant file "
        "says it is",
        "the token's access to data ended on 2026-11-20 00:00 UTC; its user has to grant access again, with a new "
        "token",
    ]
    assert version_finding("v20.0", NOW).sentence.startswith("Meta's API version v20.0 ended on 2026-06-09 or before;")
    lasting = [expiry(Subject.TOKEN), expiry(Subject.DATA_ACCESS, state=CredentialState.UNKNOWN)]
    assert [one.sentence for one in findings(VERSION, lasting, NOW)] == [
        "Meta's API version v26.0 has no announced end",
        "the token does not expire",
        "Meta does not tell when the token's access to data ends",
    ]
    assert [one.outlook for one in findings(VERSION, [], NOW)] == [Outlook.VALID, Outlook.UNKNOWN, Outlook.UNKNOWN]


def test_a_refused_version_counts_only_for_that_version() -> None:
    refused = expiry(Subject.API_VERSION, state=CredentialState.REFUSED, version="v26.0")
    assert of(Subject.API_VERSION, findings("v26.0", [refused], NOW)).is_problem
    assert not of(Subject.API_VERSION, findings("v27.0", [refused], NOW)).is_problem


def test_a_token_not_checked_for_three_days_is_a_warning() -> None:
    fresh = expiry(checked_at=NOW - OUTDATED_AFTER + SECOND)
    assert not any(one.is_warning for one in findings(VERSION, [fresh], NOW))
    [warning] = [one for one in findings(VERSION, [expiry(checked_at=NOW - OUTDATED_AFTER)], NOW) if one.is_warning]
    assert warning.sentence.startswith("the token was last checked on 2026-11-25 04:00 UTC; ")


@given(stored=st.lists(EXPIRIES, max_size=6), now=INSTANTS)
def test_findings_are_complete_and_follow_the_clock(stored: list[CredentialExpiry], now: datetime) -> None:
    found = findings(VERSION, stored, now)
    assert [one.subject for one in found[:3]] == list(Subject)
    assert all(one.outlook is Outlook.OUTDATED for one in found[3:])
    for one in found:
        assert one.sentence
        assert not (one.is_warning and one.is_problem)
        if one.ends_at is not None and one.ends_at <= now:
            assert one.is_problem
        if one.outlook is Outlook.VALID and one.ends_at is not None:
            assert one.ends_at - now > WARN_BEFORE
    # What has ended stays so until something else is found.
    ended = {one.subject for one in found if one.is_problem}
    assert ended <= {one.subject for one in findings(VERSION, stored, now + 400 * DAY) if one.is_problem}


class Asking:
    """Lumina's client of the sandbox, which waits for nothing."""

    def __init__(self, sandbox: SandboxServer) -> None:
        self.sandbox = sandbox
        self.token = sandbox.environment["LUMINA_META_TOKEN"]

    def client(self, app_secret: str | None = None) -> MetaClient:
        return MetaClient(
            tenant="lumina",
            graph_url=self.sandbox.environment["META_GRAPH_URL"],
            token=self.token,
            app_secret=app_secret,
            pacing=Pacing(delay_s=0, max_wait_s=0),
        )

    def states(self, app_secret: str | None = None) -> dict[str, tuple[str, datetime | None]]:
        fetched = fetch_expiries(self.client(app_secret), VERSION, NOW)
        return {one.subject: (one.state, one.ends_at) for one in fetched.expiries}

    def answer(self, effect: faults.Effect) -> None:
        self.sandbox.faults.add(Fault(effect, path="debug_token", times=None))


@pytest.fixture
def asking(sandbox: SandboxServer) -> Asking:
    return Asking(sandbox)


LASTS = {"api_version": ("valid", None), "token": ("valid", None), "data_access": ("valid", None)}
UNTOLD = {"api_version": ("valid", None), "token": ("unknown", None), "data_access": ("unknown", None)}


def test_a_token_asks_about_itself_without_an_app_secret(asking: Asking) -> None:
    assert asking.states() == LASTS
    assert asking.sandbox.requests.count() == 1


def test_an_app_secret_is_proved_where_the_app_demands_it(asking: Asking) -> None:
    asking.sandbox.behaviour.app_secret = "app-secret"
    assert asking.states("app-secret") == LASTS
    assert asking.states() == UNTOLD


def test_both_ends_are_read_from_the_answer(asking: Asking) -> None:
    ends = {"is_valid": True, "expires_at": 1798761600, "data_access_expires_at": 1796083200}
    asking.answer(faults.json_body({"data": ends}))
    assert asking.states() == {
        "api_version": ("valid", None),
        "token": ("valid", datetime(2027, 1, 1, tzinfo=UTC)),
        "data_access": ("valid", datetime(2026, 12, 1, tzinfo=UTC)),
    }


@pytest.mark.parametrize("given", [{}, {"expires_at": None}, {"expires_at": "soon", "data_access_expires_at": []}])
def test_an_end_that_is_not_given_is_unknown_not_never(asking: Asking, given: dict[str, object]) -> None:
    asking.answer(faults.json_body({"data": {"is_valid": True, **given}}))
    assert asking.states() == UNTOLD


def test_an_expired_token_is_refused(asking: Asking) -> None:
    asking.sandbox.world.expire_token("lumina")
    assert asking.states() == {"api_version": ("valid", None), "token": ("refused", None)}


def test_a_token_that_meta_calls_invalid_is_refused(asking: Asking) -> None:
    asking.answer(faults.json_body({"data": {"is_valid": False, "error": {"code": 190}, "scopes": []}}))
    assert asking.states()["token"] == ("refused", None)


def test_a_version_that_is_gone_is_refused(asking: Asking) -> None:
    asking.answer(faults.graph_error_code(2635))
    assert asking.states() == {"api_version": ("refused", None)}


@pytest.mark.parametrize(("code", "status"), [(100, 400), (10, 403), (200, 403), (104, 400), (803, 400)])
def test_where_meta_does_not_tell_the_end_it_is_unknown(asking: Asking, code: int, status: int) -> None:
    asking.answer(faults.graph_error_code(code, status=status))
    assert asking.states() == UNTOLD
    assert not any(
        one.is_warning or one.is_problem
        for one in findings(VERSION, fetch_expiries(asking.client(), VERSION, NOW).expiries, NOW)
    )


@pytest.mark.parametrize(
    ("effect", "error"),
    [
        (faults.http_error(500), TransientError),
        (faults.http_error(401, "proxy"), TokenError),
        (faults.http_error(403, "proxy"), SourceError),
        (faults.rate_limited("60"), RateLimitedError),
        (faults.html(), SourceError),
        (faults.reset(), SourceError),
    ],
)
def test_an_answer_that_is_not_about_the_token_is_an_error(
    asking: Asking, effect: faults.Effect, error: type[SourceError]
) -> None:
    asking.answer(effect)
    with pytest.raises(error):
        fetch_expiries(asking.client(), VERSION, NOW)


def test_the_date_of_a_version_is_midnight_utc() -> None:
    assert version_finding("v25.0", NOW).ends_at == datetime.combine(date(2027, 2, 23), datetime.min.time(), UTC)
