"""How much memory a sync takes, by the rows of its day: the peak of the process that syncs, and of Postgres' backends.

    .venv/bin/python -m benchmarks.memory [--insights 10000 100000 1000000] [--orders 1000 10000 100000]

One account's day of insights, every ad with a name and a status of its own, and one shop's day of orders. The API is a
small one that writes each page when it is asked for it, so that what it holds is not what is measured; it serves from
this process. `trigger` is the whole process, Dagster included; the engine is the same sync without Dagster. Peaks are
those of the operating system (`ru_maxrss`); of Postgres' backends the largest private memory seen (`RssAnon`).
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import sqlalchemy as sa

from benchmarks.machine import fresh_warehouse, machine, print_table
from benchmarks.peers.graph import ACCOUNT_ID
from sync_pipeline.warehouse import embedded

TENANT: Final = "bench"
SHOP: Final = 310001
LIMIT_MB: Final = 300
KIB_PER_MB: Final = 1024
INSIGHTS, ORDERS = "insights", "orders"
TENANT_FILE: Final = f"""\
tenant: {TENANT}
name: Benchmark
timezone: Asia/Manila
start_date: 2023-01-01
currency: PHP
meta: {{access_token: {{env: BENCH_META_TOKEN}}, accounts: all}}
pancake: [{{api_key: {{env: BENCH_PANCAKE_KEY}}, shops: all}}]
rate_limit: {{meta_delay_ms: 0, pos_delay_ms: 0}}
workflows:
  - {{name: {INSIGHTS}, sources: [meta], date_range: {{type: rolling, offset_days: 1}}}}
  - {{name: {ORDERS}, sources: [pos], date_range: {{type: rolling, offset_days: 1}}}}
"""

Answer = Mapping[str, Any] | str


@dataclass
class Api:
    """What both APIs have of a day: so many insights or orders, and when the first was asked for."""

    day: date
    insights: int = 0
    orders: int = 0

    def answer(self, path: str, query: Mapping[str, str]) -> Answer:
        """The answer to a request; a page is written here and then forgotten."""
        if path.endswith("/me/adaccounts"):
            account = {"id": f"act_{ACCOUNT_ID}", "account_id": ACCOUNT_ID, "name": "Bench", "currency": "PHP"}
            return {"data": [{**account, "timezone_name": "Asia/Manila", "account_status": 1}]}
        if path.endswith("/insights"):
            if query["level"] == "account":
                return {"data": [{**self._account_day(), "spend": f"{self.insights * 12.34:.2f}"}]}
            return self._graph_page(query, self._insight)
        if path.endswith("/ads"):
            return self._graph_page(query, self._status)
        if path.endswith("/orders"):
            return self._pos_page(query)
        if path.endswith("/products"):
            return {"success": True, "data": [], "total_entries": 0, "total_pages": 0}
        return {"success": True, "shops": [{"id": SHOP, "name": "Bench"}]}

    def _graph_page(self, query: Mapping[str, str], row: Any) -> str:
        start = int(query.get("after") or 0)
        end = min(self.insights, start + int(query["limit"]))
        paging = ""
        if end < self.insights:
            paging = f',"paging":{{"cursors":{{"after":"{end}"}},"next":"https://graph.facebook.com/next"}}'
        return f'{{"data":[{",".join(map(row, range(start, end)))}]{paging}}}'

    def _account_day(self) -> dict[str, str]:
        day = self.day.isoformat()
        return {"account_id": ACCOUNT_ID, "account_currency": "PHP", "date_start": day, "date_stop": day}

    def _insight(self, n: int) -> str:
        return (
            f'{{"account_id":"{ACCOUNT_ID}","account_currency":"PHP",'
            f'"campaign_id":"{120_200_000_000_000_000 + n // 40}","campaign_name":"PH__CONV_ABO_BENCH_SERUM_{n // 40}",'
            f'"adset_id":"{120_205_000_000_000_000 + n // 10}",'
            f'"adset_name":"Women 25-45 Luzon {n // 10}","ad_id":"{120_210_000_000_000_000 + n * 7919}",'
            f'"ad_name":"SERUM_VIDEO_{n}_ANNA_001","spend":"12.34","impressions":"{n % 50_000}","clicks":"{n % 900}",'
            f'"inline_link_clicks":"{n % 700}","actions":[{{"action_type":"link_click","value":"{n % 700}"}},'
            f'{{"action_type":"landing_page_view","value":"{n % 300}"}},{{"action_type":"lead","value":"{n % 13}"}}],'
            f'"date_start":"{self.day}","date_stop":"{self.day}"}}'
        )

    def _status(self, n: int) -> str:
        return f'{{"id":"{120_210_000_000_000_000 + n * 7919}","status":"ACTIVE","effective_status":"CAMPAIGN_PAUSED"}}'

    def _pos_page(self, query: Mapping[str, str]) -> str:
        size, number = int(query["page_size"]), int(query["page_number"])
        start = (number - 1) * size
        entries = ",".join(map(self._order, range(start, min(self.orders, start + size))))
        pages = -(-self.orders // size)
        return f'{{"success":true,"data":[{entries}],"total_entries":{self.orders},"total_pages":{pages}}}'

    def _order(self, n: int) -> str:
        # Noon in Manila, from where all seconds of half a day are the same day.
        at = datetime(self.day.year, self.day.month, self.day.day, 4, tzinfo=UTC) + timedelta(seconds=n % 40_000)
        moment = at.strftime("%Y-%m-%dT%H:%M:%S.000000")
        history = ",".join(
            f'{{"status":{status},"old_status":0,"updated_at":"{moment}","editor_fb":null}}' for status in range(6)
        )
        return (
            f'{{"id":{n + 1},"system_id":{n + 1},"shop_id":{SHOP},"inserted_at":"{moment}","updated_at":"{moment}",'
            f'"status":3,"status_name":"delivered","total_price":{n % 900}.5,"cod":{n % 900},'
            f'"total_price_after_sub_discount":{n % 900},"order_currency":"PHP","items":[{{"id":{n},'
            f'"product_id":"4fe1d73a-342b-55e8-9232-{n:012d}",'
            f'"variation_id":"3e72aad8-fc6c-540c-b931-{n:012d}","quantity":2,"note_product":"Serum-100","variation_info":'
            f'{{"name":"Serum","display_id":"SER-{n % 50}","product_display_id":"SER","retail_price":599}}}}],'
            f'"p_utm_source":"facebook","p_utm_content":"{120_210_000_000_000_000 + n % 5000 * 7919}","ad_id":null,'
            f'"bill_full_name":"Customer {n}","shipping_address":{{"full_name":"Customer {n}","province_name":"Cebu"}},'
            f'"partner":{{"partner_id":5,"extend_code":"TRK{n}"}},"status_history":[{history}]}}'
        )


@contextmanager
def served(api: Api) -> Iterator[str]:
    """The API's address while it serves from threads of this process."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            found = api.answer(url.path, {name: values[0] for name, values in parse_qs(url.query).items()})
            body = (found if isinstance(found, str) else json.dumps(found)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class Backends(threading.Thread):
    """Watches Postgres' processes: the largest private memory that one of them has had, in MB."""

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(daemon=True)
        with engine.connect() as connection:
            backend = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
            # After the command's name, which is in brackets: the state, and the parent.
            self._server = Path(f"/proc/{backend}/stat").read_text().rpartition(")")[2].split()[1]
        self._done = threading.Event()
        self.peak = 0.0

    def run(self) -> None:
        """Look every fifth of a second."""
        while not self._done.wait(0.2):
            children = Path(f"/proc/{self._server}/task/{self._server}/children").read_text().split()
            self.peak = max([self.peak, *(_private_mb(child) for child in children)])

    def stop(self) -> float:
        """Stop watching."""
        self._done.set()
        self.join()
        return self.peak


def _private_mb(process: str) -> float:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:  # it has ended
        return 0.0
    return next((int(line.split()[1]) / KIB_PER_MB for line in lines if line.startswith("RssAnon")), 0.0)


@dataclass(frozen=True, slots=True)
class Peak:
    """One run: the peak of its process in MB, its seconds, the processor's seconds."""

    mb: float
    seconds: float
    cpu: float


def run(command: list[str], environment: Mapping[str, str], folder: Path) -> Peak:
    """Run a command to its end. Raises RuntimeError with what it said where it fails."""
    with (folder / "output").open("w+") as output:
        began = time.perf_counter()
        process = subprocess.Popen(command, env=dict(environment), cwd=folder, stdout=output, stderr=output)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise RuntimeError(f"{command[-4:]} failed: {output.read()[-3000:]}")
    return Peak(used.ru_maxrss / KIB_PER_MB, seconds, used.ru_utime + used.ru_stime)


def measured_engine(kind: str, day: date) -> None:
    """Sync one day without Dagster, in this process: what the environment names."""
    from sync_pipeline.rows.costs import ProductCosts
    from sync_pipeline.settings import Settings
    from sync_pipeline.sources.http import Pacing
    from sync_pipeline.sources.meta import MetaClient
    from sync_pipeline.sources.pancake import PancakeClient
    from sync_pipeline.sync.engine import Feed, sync_days
    from sync_pipeline.sync.meta import MetaFeed
    from sync_pipeline.sync.pos import PosFeed
    from sync_pipeline.tenants import find_tenant, load_tenants
    from sync_pipeline.warehouse import database
    from sync_pipeline.warehouse.tenancy import Warehouse

    settings, pacing = Settings.from_environment(), Pacing(delay_s=0)
    tenant = find_tenant(load_tenants(settings.tenants), TENANT)
    warehouse = Warehouse(database.connect(database.parse_url(settings.database_url or "")))
    with warehouse.tenant(TENANT, name="Benchmark", timezone=tenant.timezone, run_id="benchmark") as held:
        feed: Feed
        if kind == INSIGHTS:
            client = MetaClient(tenant=TENANT, graph_url=settings.meta_graph_url, token="x", pacing=pacing)  # noqa: S106
            feed = MetaFeed(tenant, client, held, [ACCOUNT_ID], "benchmark")
        else:
            source = tenant.pancake[0].api_key.source
            clients = {
                source: PancakeClient(tenant=TENANT, api_url=settings.pancake_api_url, api_key="x", pacing=pacing)
            }
            feed = PosFeed(tenant, clients, held, {str(SHOP): source}, ProductCosts(), "benchmark", on_incomplete=print)
        for _ in sync_days([day], [feed]):
            pass


def measure(kind: str, rows: int) -> list[tuple[object, ...]]:
    """Lines of the table: the same day by `trigger` and by the engine alone, each into an empty warehouse."""
    day = datetime.now(UTC).date() - timedelta(days=3)
    api = Api(day, **{kind: rows})
    table = "meta_ad_insights" if kind == INSIGHTS else "pos_orders"
    span = ["--since", day.isoformat(), "--until", day.isoformat()]
    commands = {
        "trigger": [sys.executable, "-m", "sync_pipeline.cli", "trigger", TENANT, kind, *span],
        "engine alone": [sys.executable, "-m", "benchmarks.memory", "--engine", kind, day.isoformat()],
    }
    lines: list[tuple[object, ...]] = []
    with fresh_warehouse() as owner, TemporaryDirectory(prefix="bench-") as name, served(api) as url:
        folder = Path(name)
        (folder / "tenants").mkdir()
        (folder / "tenants" / f"{TENANT}.yaml").write_text(TENANT_FILE)
        project = str(Path(__file__).parents[1])
        environment = {
            **{
                name: value for name, value in os.environ.items() if not name.startswith(("SYNC_PIPELINE_", "DAGSTER_"))
            },
            "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), project])),
            "BENCH_META_TOKEN": "x",
            "BENCH_PANCAKE_KEY": "x",
            "META_GRAPH_URL": url,
            "PANCAKE_API_URL": url,
            "SYNC_PIPELINE_DATABASE_URL": owner.url.render_as_string(hide_password=False),
            "SYNC_PIPELINE_HOME": str(folder / "home"),
            "SYNC_PIPELINE_TENANTS": str(folder / "tenants"),
        }
        # Who owns the tables sees no tenant's rows.
        engine = sa.create_engine(owner.url.set(username=embedded.SUPERUSER), poolclass=sa.NullPool)
        for label, command in commands.items():
            with engine.begin() as connection:
                connection.execute(sa.text("TRUNCATE tenants CASCADE"))
            backends = Backends(engine)
            backends.start()
            peak = run(command, environment, folder)
            postgres = backends.stop()
            with engine.connect() as connection:
                stored = connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one()
            lines.append(
                (
                    f"{kind}, {label}",
                    f"{stored:,}",
                    f"{peak.mb:.0f}",
                    "yes" if peak.mb <= LIMIT_MB else "no",
                    f"{postgres:.0f}",
                    f"{peak.seconds:.1f}",
                    f"{peak.cpu:.1f}",
                )
            )
            print(*lines[-1], file=sys.stderr, flush=True)
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--insights", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--orders", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    parser.add_argument("--engine", nargs=2, metavar=("KIND", "DAY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        measured_engine(options.engine[0], date.fromisoformat(options.engine[1]))
        return
    print(f"{machine()}\n", flush=True)
    lines = [line for kind in (INSIGHTS, ORDERS) for rows in getattr(options, kind) for line in measure(kind, rows)]
    print_table(
        ["a day of", "rows", "peak, MB", f"≤ {LIMIT_MB}", "Postgres backend, MB", "seconds", "CPU seconds"], lines
    )


if __name__ == "__main__":
    main()
