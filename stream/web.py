"""What a worker serves: /metrics, /healthz and /readyz, and /agents/ID for `strayline explain`."""

from __future__ import annotations

import errno
import socket
from typing import Any

from aiohttp import web
from mode import Service
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from stream import metrics
from stream.desk import Desk
from stream.log import fatal
from stream.settings import Settings


class Web(Service):  # type: ignore[misc]
    """/metrics, /healthz, /readyz, and /agents/ID for `strayline explain`."""

    def __init__(self, desk: Desk, listening: socket.socket, **options: Any) -> None:
        self._desk = desk
        self._listening = listening
        self._runner: web.AppRunner | None = None
        super().__init__(**options)

    async def on_start(self) -> None:
        site = web.Application()
        site.router.add_get("/metrics", self._metrics)
        site.router.add_get("/healthz", self._health)
        site.router.add_get("/readyz", self._ready)
        site.router.add_get("/agents/{agent_id}", self._agent)
        self._runner = web.AppRunner(site, access_log=None)
        await self._runner.setup()
        await web.SockSite(self._runner, self._listening).start()

    async def on_stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def _ready(self, _: web.Request) -> web.Response:
        waiting = self._desk.waiting_for
        if waiting:
            return web.Response(status=503, text=f"{waiting}\n")
        return web.Response(text=f"partitions {sorted(self._desk.held)}\n")

    async def _agent(self, request: web.Request) -> web.Response:
        for partition in list(self._desk.partitions.values()):
            found = await partition.explain(request.match_info["agent_id"])
            if found is not None:
                return web.json_response(found)
        if self._desk.waiting_for:  # it may be in what is not read yet
            return web.json_response({"error": self._desk.waiting_for}, status=503)
        return web.json_response({"error": "no baseline of this agent here"}, status=404)


def listen(settings: Settings) -> socket.socket:
    """Take the HTTP port before joining the group: a worker that cannot serve must not take partitions from one that can."""
    host = settings.http_host.strip("[]")
    setting, need = "STRAYLINE_HTTP_PORT", "a free port"
    try:
        found = socket.getaddrinfo(host, settings.http_port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # `localhost` is both, and an IPv4 one is what everything tries.
        family, *_, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
        both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()  # `::` is every address, IPv4's included
        return socket.create_server(address, family=family, dualstack_ipv6=both)
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            setting, need = "STRAYLINE_HTTP_HOST", "an address of this machine"
        fatal(f"cannot serve on {where(settings)}; set {setting} to {need}", error)


def where(settings: Settings) -> str:
    """The address that a worker serves on, as `HOST:PORT`."""
    host = settings.http_host.strip("[]")
    return f"[{host}]:{settings.http_port}" if ":" in host else f"{host}:{settings.http_port}"
