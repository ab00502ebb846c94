"""The sandbox as a server: both APIs and the controls on one local port, on a thread or in the foreground."""

import asyncio
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from types import TracebackType
from typing import Any, Self
from zoneinfo import ZoneInfo

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from sync_pipeline.sandbox.behaviour import Behaviour
from sync_pipeline.sandbox.control import PREFIX as CONTROL_PREFIX
from sync_pipeline.sandbox.control import ControlApi
from sync_pipeline.sandbox.exchange import Call, Ending, Reply, json_reply, read_pairs
from sync_pipeline.sandbox.faults import Effect, Faults, http_error
from sync_pipeline.sandbox.graph import PREFIX as GRAPH_PREFIX
from sync_pipeline.sandbox.graph import GraphApi
from sync_pipeline.sandbox.pancake import PREFIX as PANCAKE_PREFIX
from sync_pipeline.sandbox.pancake import PancakeApi
from sync_pipeline.sandbox.quota import Quota
from sync_pipeline.sandbox.request_log import RequestLog
from sync_pipeline.sandbox.world import World

_FORM = "application/x-www-form-urlencoded"
_START_SECONDS = 60.0
_NOT_RELEASED = http_error(504, "the sandbox held this request at a barrier that was not released in time")


class SandboxServer:
    """The sandbox on a thread: `with SandboxServer() as sandbox: ... sandbox.environment`.

    `environment` maps the variables a pipeline needs (base addresses, tokens, keys) to their values. `world`, `faults`,
    `requests`, `behaviour` and `quota` are live: what is changed there shows in the next answer.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        seed: int = 7,
        ads: int = 64,
        orders: int = 120,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        world: World | None = None,
        quota: Quota | None = None,
        behaviour: Behaviour | None = None,
    ) -> None:
        self.world = world or World(seed=seed, ads=ads, orders=orders, now=now)
        self.quota = quota or Quota()
        self.behaviour = behaviour or Behaviour()
        self.faults = Faults()
        self.requests = RequestLog()
        self._graph = GraphApi(self.world, self.quota, self.behaviour)
        self._pancake = PancakeApi(self.world, self.behaviour)
        self._control = ControlApi(self.world, self.quota, self.behaviour, self.faults, self.requests)
        self._connections: dict[Any, asyncio.Transport] = {}
        # Listening starts here: requests that come before the loop runs wait in the backlog instead of being refused.
        self._socket = socket.create_server((host, port), backlog=512)
        self.origin = f"http://{host}:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(
            uvicorn.Config(
                self.app(),
                http=_tracking_protocol(self._connections),
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="error",
                access_log=False,
                timeout_graceful_shutdown=1,
                backlog=512,
            )
        )
        self._thread = threading.Thread(target=self.run, name="sandbox", daemon=True)

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables a pipeline needs to work against this sandbox."""
        return {
            "META_GRAPH_URL": f"{self.origin}{GRAPH_PREFIX}",
            "PANCAKE_API_URL": f"{self.origin}{PANCAKE_PREFIX}",
            **self.world.secrets(),
            "SANDBOX_CONTROL_URL": f"{self.origin}{CONTROL_PREFIX}",
        }

    def reset(self) -> None:
        """Undoes edits, faults, switches and quota settings, and empties the request log: a fresh start."""
        self.world.undo_edits()
        self.faults.clear()
        self.behaviour.reset()
        self.quota.reset()
        self.requests.clear()

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(routes=[Route("/{path:path}", self._serve, methods=["GET", "POST", "DELETE"])])

    def run(self) -> None:
        """Serves until `stop` (or, on the main thread, SIGINT or SIGTERM)."""
        self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """Asks the server to end; held requests are released, and answers under way get a second."""
        self.faults.clear()
        self._server.should_exit = True

    def __enter__(self) -> Self:
        self._thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the sandbox did not start")
            time.sleep(0.005)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        self._thread.join()
        self._socket.close()

    async def _serve(self, request: Request) -> Response:
        at, began = datetime.now(UTC), time.perf_counter()
        body = (await request.body()).decode("utf-8", "replace")
        form = body if request.headers.get("content-type", "").startswith(_FORM) else ""
        origin = f"http://{request.headers.get('host', '')}"
        call = Call(
            request.method, request.url.path, read_pairs(request.url.query, form), dict(request.headers), origin
        )
        if call.path.startswith(CONTROL_PREFIX):
            return _Answer(self._control.answer(call, body), self._connections)
        effect = self.faults.met_by(call, self._covers) or Effect()
        if effect.barrier and not await effect.barrier.released():
            effect = _NOT_RELEASED
        if effect.delay_seconds:
            await asyncio.sleep(effect.delay_seconds)
        reply = effect.reply() if effect.reply else self._answer(call)
        if effect.change:
            reply = effect.change(reply)
        reply = replace(reply, ending=effect.ending, content_type=effect.content_type or reply.content_type)
        status = 0 if reply.ending is Ending.RESET else reply.status
        self.requests.add(call, status, at, time.perf_counter() - began)
        return _Answer(reply, self._connections)

    def _answer(self, call: Call) -> Reply:
        if call.path == GRAPH_PREFIX or call.path.startswith(f"{GRAPH_PREFIX}/"):
            return self._graph.answer(call)
        if call.path.startswith(f"{PANCAKE_PREFIX}/"):
            return self._pancake.answer(call)
        return json_reply({"error": "nothing here"}, 404)

    def _covers(self, call: Call, day: date) -> bool:
        """Whether a request asks for the day: insights by their time range, order lists by their window."""
        if call.has("time_range"):
            try:
                asked = json.loads(call.first("time_range"))
                return str(asked["since"]) <= day.isoformat() <= str(asked["until"])
            except (ValueError, TypeError, KeyError):
                return False
        shop = re.search(r"/shops/(\d+)/orders$", call.path)
        ends = call.first("startDateTime"), call.first("endDateTime")
        if shop is None or not all(end.isdigit() for end in ends):
            return False
        found = self.world.shop(int(shop[1]))
        zone = found[0].timezone if found else ZoneInfo("UTC")
        first, last = (datetime.fromtimestamp(int(end), zone).date() for end in ends)
        return first <= day <= last


class _Answer(Response):
    """A reply on its way out, with what is to happen to its connection."""

    def __init__(self, reply: Reply, connections: dict[Any, asyncio.Transport]) -> None:
        self._reply = reply
        self._connections = connections
        super().__init__(reply.body, reply.status, dict(reply.headers), media_type=reply.content_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._reply.ending is Ending.KEPT:
            await super().__call__(scope, receive, send)
            return
        transport = self._connections[tuple(scope["client"])]
        if self._reply.ending is Ending.CUT:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            half = self.body[: len(self.body) // 2]
            await send({"type": "http.response.body", "body": bytes(half), "more_body": True})
            transport.close()
            return
        # Without lingering, closing sends RST in place of FIN.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


def _tracking_protocol(connections: dict[Any, asyncio.Transport]) -> type[H11Protocol]:
    """Uvicorn's protocol, noting each open connection by its client's address: ASGI alone cannot break one."""

    class TrackingProtocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if self.client:
                connections[tuple(self.client)] = transport

        def connection_lost(self, exc: Exception | None) -> None:
            if self.client:
                connections.pop(tuple(self.client), None)
            super().connection_lost(exc)

    return TrackingProtocol
