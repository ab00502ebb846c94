"""Breakdowns of insights: the combinations that are served, and how a row is divided among their values."""

from collections.abc import Iterator, Mapping
from itertools import product

from sync_pipeline.sandbox import graph_errors as errors
from sync_pipeline.sandbox.entities import Insight
from sync_pipeline.sandbox.graph_errors import RefusedError

HOURLY = "hourly_stats_aggregated_by_advertiser_time_zone"
VALUES: Mapping[str, tuple[str, ...]] = {
    "age": ("18-24", "25-34", "35-44", "45-54", "55-64", "65+"),
    "gender": ("female", "male", "unknown"),
    "country": ("PH", "VN", "US"),
    "region": ("Metro Manila", "Cebu", "California"),
    "comscore_market": ("Los Angeles", "New York"),
    "publisher_platform": ("facebook", "instagram"),
    "platform_position": ("feed", "facebook_reels"),
    "impression_device": ("android_smartphone", "iphone", "desktop"),
    "device_platform": ("mobile_app", "mobile_web", "desktop"),
    HOURLY: tuple(f"{hour:02d}:00:00 - {hour:02d}:59:59" for hour in range(24)),
}
COMBINATIONS = frozenset(
    {
        *(frozenset({name}) for name in VALUES if name != "platform_position"),
        frozenset({"age", "gender"}),
        frozenset({"publisher_platform", "platform_position"}),
        frozenset({"publisher_platform", "platform_position", "impression_device"}),
        frozenset({"publisher_platform", "device_platform"}),
    }
)
# Accounts without sales support must opt into these.
OPTIONAL = frozenset({"impression_device"})
_FIGURES = ("spend", "impressions", "clicks", "link_clicks", "landing_page_views", "leads")


def check_combination(breakdowns: tuple[str, ...]) -> None:
    """Refuse a combination of breakdowns that is not served."""
    if breakdowns and frozenset(breakdowns) not in COMBINATIONS:
        named = ", ".join(breakdowns)
        raise RefusedError(errors.bad_parameter(f"Current combination of data breakdown columns ({named}) is invalid"))


def divided(row: Insight, breakdowns: tuple[str, ...]) -> Iterator[Insight]:
    """Divide a row into parts that add up to it; parts without impressions are left out."""
    cuts = [tuple(zip(breakdowns, values, strict=True)) for values in product(*(VALUES[name] for name in breakdowns))]
    figures = row._asdict()
    for place, cut in enumerate(cuts):
        part = {
            name: figures[name] * (place + 1) // len(cuts) - figures[name] * place // len(cuts) for name in _FIGURES
        }
        if part["impressions"]:
            yield row._replace(**part, cut=cut)
