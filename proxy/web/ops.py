"""The operators' listener: metrics, liveness, readiness."""

from __future__ import annotations

from aiohttp import web

from proxy.domain.errors import StoreUnavailable
from proxy.metrics import CONTENT_TYPE
from proxy.scraping import ScrapeFailed, exposition
from proxy.web.answer import json_answer
from proxy.web.door import DOOR
from proxy.web.public import health


async def show_metrics(http: web.Request) -> web.Response:
    """GET /metrics, in Prometheus' text format: of all workers together, or 503."""
    try:
        body = await exposition(http.app[DOOR].metrics)
    except ScrapeFailed:
        return json_answer({"status": "the metrics could not be gathered"}, 503)
    return web.Response(body=body, headers={"content-type": CONTENT_TYPE})


async def ready(http: web.Request) -> web.Response:
    """GET /readyz: 200 where requests can be served now, 503 while the store is away and nothing
    may be served without it, and while the gateway stops.
    """
    door = http.app[DOOR]
    if door.draining.is_set():
        return json_answer({"status": "draining"}, 503)
    try:
        await door.store.ping()
        await door.heart.beat()  # a store that takes no writes is no store
    except StoreUnavailable:
        return json_answer({"status": "the store cannot be reached"}, 200 if door.grace else 503)
    return json_answer({"status": "ready"})


def add_routes(app: web.Application) -> None:
    app.router.add_get("/metrics", show_metrics)
    app.router.add_get("/healthz", health)
    app.router.add_get("/readyz", ready)
