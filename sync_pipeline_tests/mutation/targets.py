"""The core modules, and the files of tests that are run against the mutants of each, the most telling first."""

from collections.abc import Mapping
from typing import Final

_CLIENTS: Final = ("sources/test_redaction.py", "sources/test_customer_data.py")
_META: Final = ("sources/test_meta.py", "sources/test_splitting.py", "sources/test_http.py", *_CLIENTS)
_PANCAKE: Final = ("sources/test_pancake.py", "sources/test_http.py", *_CLIENTS)
_ENGINE: Final = (
    *("sync/test_engine.py", "sync/test_rejected.py", "sync/test_refusals.py", "sync/test_discovery.py"),
    *("sync/test_supplements.py", "sync/test_over_at.py", "sync/test_ad_parts.py", "sync/test_reports.py"),
)
_ORDERS: Final = ("rows/test_pancake.py", "rows/test_totals.py", "rows/test_customers.py", "rows/test_values.py")
_FIGURES: Final = (
    *("warehouse/test_figures.py", "warehouse/test_performance.py", "warehouse/test_reports.py"),
    *("warehouse/test_exclusions.py", "warehouse/test_views.py", "sync/test_recompute.py"),
)
_LOGIN: Final = ("webserver/test_access.py", "webserver/test_launches.py", "webserver/test_roles.py")

TARGETS: Final[Mapping[str, tuple[str, ...]]] = {
    "text_safety.py": ("test_text_safety.py", "cli/test_literal_text.py"),
    "date_ranges.py": ("test_date_ranges.py", "sync/test_over_at.py", "sync/test_engine.py"),
    "rows/costs.py": ("rows/test_costs.py", "sync/test_costs.py"),
    "rows/customers.py": ("rows/test_customers.py",),
    "rows/errors.py": ("rows/test_values.py", "rows/test_pancake.py", "rows/test_meta.py", "sync/test_rejected.py"),
    "rows/meta.py": ("rows/test_meta.py", "rows/test_names.py", "sync/test_ad_parts.py", "sync/test_rejected.py"),
    "rows/names.py": ("rows/test_names.py", "rows/test_meta.py"),
    "rows/notes.py": ("rows/test_pancake.py", "rows/test_hostile_texts.py", "rows/test_customers.py"),
    "rows/pancake.py": (*_ORDERS, "rows/test_hostile_texts.py", "sync/test_recompute.py"),
    "rows/products.py": ("rows/test_products.py", "rows/test_costs.py", "sync/test_rejected.py", "sync/test_costs.py"),
    "rows/statuses.py": ("rows/test_statuses.py", "rows/test_pancake.py", "warehouse/test_figures.py"),
    "rows/totals.py": ("rows/test_totals.py", "rows/test_pancake.py"),
    "rows/values.py": ("rows/test_values.py", "rows/test_pancake.py", "rows/test_meta.py", "rows/test_totals.py"),
    "sources/answers.py": (*_PANCAKE, "sources/test_meta.py", "sources/test_graph_errors.py", "sources/test_limits.py"),
    "sources/errors.py": ("sources/test_graph_errors.py", *_PANCAKE, "sync/test_refusals.py"),
    "sources/graph.py": (*_META, "sources/test_graph_errors.py", "sources/test_limits.py"),
    "sources/graph_errors.py": ("sources/test_graph_errors.py", *_META),
    "sources/graph_versions.py": ("sources/test_graph_versions.py", "sync/test_credentials.py"),
    "sources/http.py": ("sources/test_http.py", *_CLIENTS, "sources/test_bodies.py", "sources/test_limits.py"),
    "sources/insights.py": (*_META, "sync/test_reports.py"),
    "sources/json_text.py": ("sources/test_bodies.py", "sources/test_limits.py"),
    "sources/meta.py": (*_META, "sync/test_supplements.py", "sources/test_limits.py"),
    "sources/pancake.py": (*_PANCAKE, "automation/test_late_orders.py", "sources/test_limits.py"),
    "sources/paging.py": ("sources/test_splitting.py", "sources/test_meta.py", "sources/test_limits.py"),
    "sources/redaction.py": _CLIENTS,
    "sources/reports.py": ("sources/test_meta.py", "sources/test_splitting.py", "sync/test_reports.py"),
    "sources/transport.py": ("sources/test_http.py", "sources/test_bodies.py", "sources/test_limits.py"),
    "sources/waits.py": ("sources/test_waits.py", "sources/test_http.py", "sync/test_engine.py"),
    "sync/costs.py": ("sync/test_costs.py", "assets/test_costs.py", "sync/test_recompute.py"),
    "sync/credentials.py": ("sync/test_credentials.py", "automation/test_credentials.py"),
    "sync/engine.py": (*_ENGINE, "sync/test_fault_matrix.py"),
    "sync/errors.py": (*_ENGINE, "assets/test_noted_failures.py"),
    "sync/meta.py": _ENGINE,
    "sync/pos.py": (*_ENGINE, "sync/test_costs.py"),
    "sync/recompute.py": ("sync/test_recompute.py",),
    "sync/refusals.py": ("sync/test_refusals.py", "assets/test_refusals.py", "cli/test_status.py"),
    "sync/rejections.py": ("sync/test_rejected.py", "sync/test_ad_parts.py", "sync/test_engine.py"),
    "sync/supplements.py": ("sync/test_supplements.py", "sync/test_engine.py", "sync/test_fault_matrix.py"),
    "warehouse/bulk.py": ("warehouse/test_staging.py", "sync/test_engine.py"),
    "warehouse/checks.py": ("assets/test_checks.py", "assets/test_complete_days.py", "sync/test_supplements.py"),
    "warehouse/completeness.py": (
        *("warehouse/test_health.py", "sync/test_over_at.py", "automation/test_freshness.py"),
        *("assets/test_complete_days.py", "warehouse/test_isolation.py"),
    ),
    "warehouse/exclusions.py": ("warehouse/test_exclusions.py", "warehouse/test_performance.py"),
    "warehouse/figures.py": _FIGURES,
    "warehouse/health.py": ("warehouse/test_health.py", "cli/test_status.py"),
    "warehouse/order_costs.py": ("sync/test_costs.py", "assets/test_costs.py", "warehouse/test_isolation.py"),
    "warehouse/performance.py": (*_FIGURES, "warehouse/test_isolation.py"),
    "warehouse/recomputation.py": ("sync/test_recompute.py", *_FIGURES, "warehouse/test_isolation.py"),
    "warehouse/refusals.py": ("sync/test_refusals.py", "warehouse/test_isolation.py", "cli/test_status.py"),
    "warehouse/rejected.py": ("sync/test_rejected.py", "sync/test_refusals.py", "warehouse/test_isolation.py"),
    "warehouse/reports.py": ("warehouse/test_reports.py", "warehouse/test_isolation.py"),
    "warehouse/staging.py": (
        *("warehouse/test_staging.py", "sync/test_ad_parts.py", "sync/test_rejected.py", "sync/test_engine.py"),
        *(
            "sync/test_over_at.py",
            "sync/test_refusals.py",
            "warehouse/test_isolation.py",
            "assets/test_complete_days.py",
        ),
    ),
    "warehouse/tenancy.py": (
        *("warehouse/test_tenancy.py", "sync/test_engine.py", "sync/test_discovery.py", "warehouse/test_access.py"),
        *("automation/test_late_orders.py", "automation/test_recovery.py", "warehouse/test_isolation.py"),
    ),
    "warehouse/views.py": ("warehouse/test_views.py", "warehouse/test_health.py", *_FIGURES),
    "webserver/authorization.py": _LOGIN,
    "webserver/graphql_request.py": _LOGIN,
    "webserver/hosts.py": ("webserver/test_hosts.py",),
    "webserver/launch_rules.py": ("webserver/test_launches.py", *_LOGIN),
    "webserver/launches.py": ("webserver/test_launches.py", *_LOGIN),
    "webserver/permissions.py": _LOGIN,
}
"""Test files by module; paths are below `sync_pipeline_tests` and `sync_pipeline`."""
