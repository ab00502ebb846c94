"""The Graph API's errors: one row of the table of facts each, ready to be answered or injected."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import count

from sync_pipeline.sandbox.exchange import Reply, json_reply

_traces = count(1)


@dataclass(frozen=True)
class GraphError:
    """An error as the Graph API answers it. Fields left at None are absent from the body."""

    message: str
    code: int
    status: int = 400
    subcode: int | None = None
    kind: str = "OAuthException"
    is_transient: bool | None = None
    user_title: str | None = None
    user_message: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def reply(self) -> Reply:
        """The answer, with a trace id of its own."""
        body = {
            "message": self.message,
            "type": self.kind,
            "is_transient": self.is_transient,
            "code": self.code,
            "error_subcode": self.subcode,
            "error_user_title": self.user_title,
            "error_user_msg": self.user_message,
            "fbtrace_id": f"ASandboxTrace{next(_traces):08d}",
        }
        return json_reply(
            {"error": {name: value for name, value in body.items() if value is not None}}, self.status, self.headers
        )


class RefusedError(Exception):
    """Raised by a handler to answer with an error."""

    def __init__(self, error: GraphError) -> None:
        super().__init__(error.message)
        self.error = error


NO_TOKEN = GraphError("An access token is required to request this resource.", 104)
BAD_TOKEN = GraphError("Invalid OAuth access token - Cannot parse access token", 190)
EXPIRED_TOKEN = GraphError(
    "Error validating access token: Session has expired on Monday, 02-Nov-26 08:00:00 PST.", 190, 401, 463
)
BAD_PROOF = GraphError("Invalid appsecret_proof provided in the API argument", 104)
NO_PERMISSION = GraphError("(#200) Ad account owner has NOT grant ads_management or ads_read permission", 200, 403)
TOO_MUCH_DATA = GraphError(
    "Please reduce the amount of data you're asking for, then retry your request", 1, 500, is_transient=False
)
IDS_GONE = GraphError("The ids query parameter is deprecated in v26.0+.", 100, 500)
BEYOND_HISTORY = GraphError(
    "(#3018) The start date of the time range cannot be beyond 37 months from the current date", 3018
)
BAD_CURSOR = GraphError("Invalid cursors values. Please provide valid cursors.", 2642)
POLICY_BLOCK = GraphError("The action attempted has been deemed abusive or is otherwise disallowed", 368)
TRANSIENT = GraphError("An unknown error occurred", 1, 500, 99, is_transient=True)
UNAVAILABLE = GraphError("Service temporarily unavailable", 2, 503, is_transient=True)
TIMED_OUT = GraphError("Request timed out. Please try again later.", 960, is_transient=True)
USER_LIMIT = GraphError(
    "User request limit reached",
    17,
    subcode=2446079,
    is_transient=False,
    user_title="Ad Account Has Too Many API Calls",
    user_message="There have been too many calls from this ad-account. Please wait a bit and try again.",
)
APP_LIMIT = GraphError("Application request limit reached", 4, 403, 1504022, is_transient=True)
BUSINESS_LIMIT = GraphError(
    "(#80000) There have been too many calls to this ad-account. Wait a bit and try again.", 80000, subcode=2446079
)
CALL_LIMIT = GraphError("Calls to this api have exceeded the rate limit", 613, subcode=1487742)
MISSING_PERMISSIONS = GraphError("Missing permissions", 100)
PERMANENT_UNKNOWN = GraphError("An unknown error occurred", 1, 500, 2853001, is_transient=False)
INCOMPLETE_CREATIVE = GraphError(
    "Invalid parameter",
    100,
    subcode=2446289,
    is_transient=False,
    user_title="Ad Creative Is Incomplete",
    user_message="The selected post is not available. It may have been deleted, or permission to see it is missing.",
)
REPORT_NOT_READY = GraphError(
    "Error accessing adreport job.",
    2601,
    subcode=1815107,
    is_transient=True,
    user_title="Loading Async Ads Report Failed",
    user_message="The report cannot be loaded. Check that its status is completed before fetching the data.",
)


def bad_parameter(message: str) -> GraphError:
    """Code 100: the request itself is wrong."""
    return GraphError(f"(#100) {message}", 100)


def no_such_object(method: str, name: str) -> GraphError:
    """Code 100/33: no such object, or none this token may see."""
    return GraphError(
        f"Unsupported {method.lower()} request. Object with ID '{name}' does not exist, cannot be loaded due to "
        "missing permissions, or does not support this operation.",
        100,
        subcode=33,
        kind="GraphMethodException",
    )


def unknown_path(path: str) -> GraphError:
    """Code 2500: no such edge."""
    return GraphError(f"Unknown path components: /{path}", 2500)


def version_gone(version: str) -> GraphError:
    """Code 2635: the version is not served."""
    return GraphError(
        f"(#2635) You are calling a deprecated version of the Ads API ({version}). Please update to the latest one.",
        2635,
    )


# The names by which faults select an error.
NAMED = {
    "no_token": NO_TOKEN,
    "bad_token": BAD_TOKEN,
    "expired_token": EXPIRED_TOKEN,
    "bad_proof": BAD_PROOF,
    "no_permission": NO_PERMISSION,
    "missing_permissions": MISSING_PERMISSIONS,
    "too_much_data": TOO_MUCH_DATA,
    "too_much_data_async_hint": replace(TOO_MUCH_DATA, code=100, status=400, subcode=1487534),
    "too_much_data_rows": replace(TOO_MUCH_DATA, code=100, status=400, subcode=1504018),
    "too_much_data_timeout": replace(TOO_MUCH_DATA, code=2, subcode=1504038),
    "too_much_data_2637": replace(TOO_MUCH_DATA, code=2637, status=400),
    "ids_gone": IDS_GONE,
    "beyond_history": BEYOND_HISTORY,
    "bad_cursor": BAD_CURSOR,
    "policy_block": POLICY_BLOCK,
    "transient": TRANSIENT,
    "permanent_unknown": PERMANENT_UNKNOWN,
    "incomplete_creative": INCOMPLETE_CREATIVE,
    "report_not_ready": REPORT_NOT_READY,
    "unavailable": UNAVAILABLE,
    "timed_out": TIMED_OUT,
    "user_limit": USER_LIMIT,
    "app_limit": APP_LIMIT,
    "business_limit": BUSINESS_LIMIT,
    "call_limit": CALL_LIMIT,
    "bad_parameter": bad_parameter("Invalid parameter"),
    "no_such_object": no_such_object("GET", "1"),
    "unknown_path": unknown_path("nothing"),
    "version_gone": version_gone("v22.0"),
}
