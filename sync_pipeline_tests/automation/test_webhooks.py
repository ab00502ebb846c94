"""Whatever state a webhook is in, posting to it ends soon, tells what became of each message, and shows no address."""

import logging
import threading
from types import SimpleNamespace

import pytest

from sync_pipeline.automation import webhooks
from sync_pipeline.automation.webhooks import NO_TIME, Message, Undelivered, post_all
from sync_pipeline.tenants import SecretRef
from sync_pipeline_tests.automation.conftest import MARKER, Hook
from sync_pipeline_tests.sources.scripted import FakeClock

OURS, OTHERS = SecretRef(env="OUR_WEBHOOK"), SecretRef(env="OTHER_WEBHOOK")
NOWHERE = f"http://127.0.0.1:1/{MARKER}"


@pytest.fixture(autouse=True)
def _addresses(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUR_WEBHOOK", hook.url("ours"))
    monkeypatch.setenv("OTHER_WEBHOOK", hook.url("others"))


def test_the_messages_of_one_address_arrive_in_order_whoever_they_are_of(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_WEBHOOK", hook.url("ours"))
    assert post_all([Message(OURS, "a"), Message(OTHERS, "b"), Message(OURS, "c")]) == [None, None, None]
    assert hook.texts("ours") == ["a", "b", "c"]


def test_a_hook_that_is_down_is_left_alone_and_the_other_is_served(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUR_WEBHOOK", NOWHERE)
    down = Undelivered("no connection", again=True)
    assert post_all([Message(OURS, "a"), Message(OURS, "b"), Message(OTHERS, "c")]) == [down, down, None]
    assert hook.texts("others") == ["c"]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (204, None),
        (429, Undelivered("it answered HTTP 429", again=True)),
        (503, Undelivered("it answered HTTP 503", again=True)),
        (500, Undelivered("it answered HTTP 500")),
        (404, Undelivered("it answered HTTP 404")),
        (302, Undelivered("it redirects (HTTP 302), which is not followed; set the address it leads to")),
    ],
)
def test_a_refused_message_is_worth_sending_again_only_where_the_hook_may_take_it_later(
    hook: Hook, status: int, outcome: Undelivered | None
) -> None:
    hook.status, hook.headers = status, {"Location": hook.url("elsewhere")}
    assert post_all([Message(OURS, "a")]) == [outcome]
    assert hook.texts("elsewhere") == []


def test_a_hook_that_refuses_one_message_is_not_sent_the_next(hook: Hook) -> None:
    hook.status = 404
    first, second = post_all([Message(OURS, "a"), Message(OURS, "b")])
    assert (first, second) == (Undelivered("it answered HTTP 404"), Undelivered("it answered HTTP 404", again=True))
    assert hook.texts("ours") == ["a"]


def test_a_message_that_may_have_been_taken_is_not_worth_sending_again(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "READ_TIMEOUT_S", 0.2)
    hook.release = threading.Event()
    assert post_all([Message(OURS, "a")]) == [Undelivered("no answer within 0.2 s; it may have been taken")]


def test_an_answer_that_outlasts_the_timeouts_of_a_request_is_not_waited_for(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "END_WITHIN_S", 2.0)
    hook.release = threading.Event()
    assert post_all([Message(OURS, "a"), Message(OURS, "b")]) == [
        Undelivered("no answer in time; it may have been taken"),
        NO_TIME,
    ]


def test_what_cannot_be_begun_in_time_is_left(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    monkeypatch.setattr(webhooks, "time", SimpleNamespace(monotonic=clock, sleep=clock.sleep))
    monkeypatch.setattr(webhooks, "PAUSE_S", webhooks.BEGIN_WITHIN_S + 1)
    assert post_all([Message(OURS, "a"), Message(OURS, "b")]) == [None, NO_TIME]


@pytest.mark.parametrize("address", [MARKER, f"ftp://{MARKER}/x", f"http://[{MARKER}/x", f"https:///{MARKER}"])
def test_what_is_no_address_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("OUR_WEBHOOK", address)
    why = "the environment variable OUR_WEBHOOK holds no http or https URL"
    assert post_all([Message(OURS, "a")]) == [Undelivered(why)]


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("{hook}", 200),
        ("{hook}", 302),
        ("{hook}?key={marker}", 500),
        ("http://127.0.0.1:1/{marker}?key={marker}", 0),
        ("http://x:{marker}@127.0.0.1:1/", 0),
        ("http://x.invalid/{marker}", 0),
    ],
)
def test_the_address_is_in_no_log_and_no_outcome(
    hook: Hook, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, address: str, status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    hook.status, hook.headers = status, {"Location": hook.url("elsewhere")}
    monkeypatch.setenv("OUR_WEBHOOK", address.format(hook=hook.url("ours"), marker=MARKER))
    outcomes = post_all([Message(OURS, "a")])
    assert any(record.name.startswith("urllib3") for record in caplog.records), "its own log is part of this"
    assert MARKER not in caplog.text
    assert MARKER not in repr(outcomes)
