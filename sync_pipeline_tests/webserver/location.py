"""A small code location: an asset with daily partitions, and a job whose resource has a field."""

import dagster as dg

DAYS = dg.DailyPartitionsDefinition("2026-10-01", end_date="2026-10-08")


class Api(dg.ConfigurableResource):  # type: ignore[type-arg]
    url: str = "http://127.0.0.1:1"


@dg.asset(partitions_def=DAYS)
def orders(api: Api) -> None:
    assert api.url


@dg.asset
def shops() -> None:
    pass


daily = dg.define_asset_job("acme__daily", ["orders"], tags={"tenant": "acme", "workflow": "daily"})
definitions = dg.Definitions(
    assets=[orders, shops],
    jobs=[daily],
    schedules=[dg.ScheduleDefinition(name="nightly", job_name="acme__daily", cron_schedule="0 2 * * *")],
    resources={"api": Api()},
)
