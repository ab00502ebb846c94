"""Each tenant's pool with its limit of one run, written before its first run.

Dagster writes a pool's default limit only when a run of it is dequeued, and lets a second one of the same moment pass.
"""

from collections.abc import Iterable

import dagster as dg

from sync_pipeline.assets.specs import pool
from sync_pipeline.tenants import Tenant

ONE_RUN = 1


def declare_pools(instance: dg.DagsterInstance, tenants: Iterable[Tenant]) -> list[str]:
    """Write the limit of every pool that has none yet; returns their names. One that was changed in the UI stays."""
    storage = instance.event_log_storage
    known = {limit.name for limit in storage.get_pool_limits()}
    fresh = [name for name in map(pool, tenants) if name not in known]
    for name in fresh:
        storage.set_concurrency_slots(name, ONE_RUN)
    return fresh
