"""Usage headers of the Graph API: how much of its quota a caller has used, and when it regains access."""

import json
import math

from sync_pipeline.sandbox.behaviour import Behaviour
from sync_pipeline.sandbox.entities import Json
from sync_pipeline.sandbox.quota import Quota


def usage_headers(quota: Quota, behaviour: Behaviour, caller: str, *, insights: bool) -> dict[str, str]:
    """Return the usage headers of one answer; `caller` is the ad account (`act_...`) or the app that was counted."""
    used = round(quota.used_percent(caller), 2)
    whole = round(used)
    load = {"call_count": whole, "total_cputime": whole // 4, "total_time": whole // 4}
    found: dict[str, Json] = {"X-App-Usage": {**load, "call_count": whole // 10}}
    if caller.startswith("act_"):
        tier: Json = {} if behaviour.access_tier is None else {"ads_api_access_tier": behaviour.access_tier}
        use_case = {
            "type": "ads_insights" if insights else "ads_management",
            **load,
            **_regain("estimated_time_to_regain_access", quota.minutes_left(caller), behaviour),
            **tier,
        }
        found["X-Business-Use-Case-Usage"] = {caller.removeprefix("act_"): [use_case]}
        # A score that decays: the time until it is zero again, not a wait that is asked for.
        seconds = math.ceil(quota.seconds_left(caller) or quota.decay_seconds * used / 100)
        found["X-Ad-Account-Usage"] = {
            "acc_id_util_pct": used,
            **_regain("reset_time_duration", seconds, behaviour),
            **tier,
        }
        if insights:
            found["X-FB-Ads-Insights-Throttle"] = {"app_id_util_pct": used / 10, "acc_id_util_pct": used, **tier}
    return {name: _written(content, behaviour) for name, content in found.items()}


def _regain(name: str, value: int, behaviour: Behaviour) -> Json:
    if behaviour.regain_access == "absent":
        return {}
    return {name: 0 if behaviour.regain_access == "zero" else value}


def _written(content: Json, behaviour: Behaviour) -> str:
    if behaviour.usage_header_form == "list":
        return json.dumps([content])
    text = json.dumps(content)
    return text if behaviour.usage_header_form == "object" else json.dumps(text)
