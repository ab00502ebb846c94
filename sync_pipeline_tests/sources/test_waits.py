"""Waits and usage headers under arbitrary input."""

import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sync_pipeline.sources.waits import (
    MIN_WAIT_S,
    AccessTier,
    RateLimitWaits,
    access_tier,
    adaptive_delay,
    asked_wait,
    usage,
)

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
HEADERS = ("X-Business-Use-Case-Usage", "X-Ad-Account-Usage", "X-App-Usage", "X-FB-Ads-Insights-Throttle")
TIERS: list[AccessTier | None] = [None, "standard", "development"]
NAMES = st.sampled_from(
    ["call_count", "acc_id_util_pct", "reset_time_duration", "estimated_time_to_regain_access", "ads_api_access_tier"]
)
SCALARS = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4))


@given(
    max_wait_s=st.floats(0, 4000),
    refusals=st.lists(
        st.tuples(st.none() | st.just(0.0) | st.floats(0, 500), st.booleans(), st.sampled_from(TIERS)), max_size=40
    ),
)
# What is left after 5 + 10 + 15 s is too short for a wait.
@example(max_wait_s=30.5, refusals=[(None, False, None)] * 4)
@example(max_wait_s=31.0, refusals=[(None, False, None)] * 4)
@example(max_wait_s=1000.0, refusals=[(0.0, True, None), (0.5, True, None), (None, True, "standard")])
def test_the_waits_of_a_request_add_up_to_max_wait_s_at_most(
    max_wait_s: float, refusals: list[tuple[float | None, bool, AccessTier | None]]
) -> None:
    waits, waited = RateLimitWaits(), 0.0
    for asked_s, blocked, tier in refusals:
        left_s = max_wait_s - waits.total_s
        seconds = waits.next(asked_s, blocked=blocked, tier=tier, left_s=left_s)
        if seconds > left_s:
            break
        assert seconds >= MIN_WAIT_S
        waited += seconds
    assert waited <= max_wait_s + 1e-6


@given(st.sampled_from(HEADERS), st.text(max_size=30) | VALUES.map(json.dumps))
@example("X-Ad-Account-Usage", '{"acc_id_util_pct": 100, "reset_time_duration": 1e999}')
@example("X-Business-Use-Case-Usage", '{"11": [{"estimated_time_to_regain_access": 1e308}]}')
@example("X-App-Usage", f'{{"call_count": {"9" * 400}}}')
def test_no_usage_header_breaks_the_pace(name: str, text: str) -> None:
    headers = {name: text}
    found = usage(headers)
    assert found is None or (math.isfinite(found.percent) and math.isfinite(adaptive_delay(found)))
    asked = asked_wait(headers, NOW)
    assert asked is None or asked >= 0
    assert access_tier(headers) in TIERS


@pytest.mark.parametrize("percent", [0, 9.67, 49, 94.9])
def test_a_quota_with_room_left_resets_without_a_wait(percent: float) -> None:
    headers = {"X-Ad-Account-Usage": json.dumps({"acc_id_util_pct": percent, "reset_time_duration": 3600})}
    found = usage(headers)
    assert found is not None
    assert found.regain_s is None
    assert asked_wait(headers, NOW) is None


@pytest.mark.parametrize("tier", ["", "unheard_of", 5, None, ["standard_access"], {"standard_access": 1}])
def test_an_unreadable_tier_is_unknown(tier: Any) -> None:
    assert access_tier({"X-Ad-Account-Usage": json.dumps({"ads_api_access_tier": tier})}) is None
