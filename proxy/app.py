"""The composition root: a Config in, the gateway's parts out, and their life together."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from time import monotonic
from typing import Final

from aiohttp import web
from yarl import URL

from proxy import config as cfg
from proxy import logs, scraping
from proxy.domain.grace import Grace
from proxy.domain.health import Standing
from proxy.domain.routing import Health, Model
from proxy.housekeeping import House, Keeping
from proxy.images.dial import SystemResolver
from proxy.images.fetch import Fetcher, FetchObserver
from proxy.images.guard import ImageGuard
from proxy.metrics import Metrics
from proxy.rules import build_health, build_models, build_plans, build_providers, egress_proxy
from proxy.store.client import Store
from proxy.store.directory import Directory
from proxy.store.journal import Journal
from proxy.store.keyring import KeyRing
from proxy.store.layout import SWITCHED
from proxy.store.ledger import Lease, Ledger
from proxy.store.marks import Marks
from proxy.store.presence import Heartbeat, identity
from proxy.store.switches import Pair, Switches
from proxy.upstream.transports import open_transports
from proxy.web import admin, ops, public
from proxy.web.background import Background
from proxy.web.chat import chat_completions
from proxy.web.door import DOOR, Door
from proxy.web.middleware import name_request, refuser, watch
from proxy.web.pulse import Pulse
from proxy.web.read import expect_later
from proxy.web.server import REFUSE

PATIENCE: Final = 60.0  # seconds that a client may read nothing
_SETTLE_DEADLINE: Final = 10.0  # seconds

#: Below the data directory, per store: settlements that it could not take.
JOURNAL: Final = "journal"

#: What fetches images, telling of it, and by a proxy if there is one.
OpenFetcher = Callable[[FetchObserver, URL | None], AbstractAsyncContextManager[Fetcher]]


@asynccontextmanager
async def open_fetcher(observe: FetchObserver, egress_proxy: URL | None) -> AsyncIterator[Fetcher]:
    """A fetcher by the system's resolver and sockets."""
    resolver = SystemResolver()
    try:
        async with Fetcher(resolver, observe, egress_proxy=egress_proxy) as fetcher:
            yield fetcher
    finally:
        resolver.close()


@asynccontextmanager
async def open_door(
    config: cfg.Config,
    store_url: str,
    peppers: Sequence[str],
    *,
    log: logs.Log | None = None,
    draw: Callable[[], float] = random.random,
    patience: float = PATIENCE,
    open_fetcher: OpenFetcher = open_fetcher,
) -> AsyncIterator[Door]:
    """Everything that serves, running; stopped in order on leaving, settlements last.

    Raises StoreUnavailable or SchemaError where the store cannot be used.
    """
    log = log or logs.get()
    named = scraping.named(config.metrics.max_keys)
    metrics = Metrics(named=named, config_hash=config.fingerprint)
    store = Store.open(store_url, metrics.stored, wait_replicas=config.store.wait_replicas)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        await store.check_schema()
        keeping = _keeping(config, await identity(store), metrics, log)
        proxy = egress_proxy(config.images)
        fetcher = await stack.enter_async_context(open_fetcher(metrics.fetches, proxy))
        images = ImageGuard(metrics.image, fetcher, config.server.max_body)
        door = _assemble(config, store, peppers, keeping, images, metrics, log, draw, patience)
        house = House(door, keeping)
        for transport in door.upstreams.values():
            stack.push_async_callback(transport.close)
        stack.push_async_callback(door.switches.stop)
        door.keys.also(SWITCHED, door.switches.heard)
        await door.keys.start()
        stack.push_async_callback(door.keys.stop)
        await door.ledger.start()
        stack.push_async_callback(door.ledger.stop, _SETTLE_DEADLINE)
        stack.push_async_callback(door.background.stop, config.server.drain)
        stack.callback(door.pulse.stop)
        await door.switches.look()
        await house.open()
        stack.push_async_callback(house.close)
        yield door


def _keeping(config: cfg.Config, store: str, metrics: Metrics, log: logs.Log) -> Keeping:
    """What the gateway itself keeps beside the store of that identity."""

    def alarm(event: str, **fields: object) -> None:
        metrics.alarms[event,] += 1
        log.error(event, **fields)

    def backwards(team: str, writings: int) -> None:
        alarm("store_went_backwards", team=team, writings_lost=writings)

    return Keeping(
        plans=build_plans(config),
        journals=config.store.data / JOURNAL / store,
        marks=Marks(config.store.data / f"marks-{store}.json", backwards),
        grace=Grace(config.store.grace) if config.store.on_failure == "allow" else None,
        alarm=alarm,
        retention=config.store.retention,
    )


def _assemble(
    config: cfg.Config,
    store: Store,
    peppers: Sequence[str],
    keeping: Keeping,
    images: ImageGuard,
    metrics: Metrics,
    log: logs.Log,
    draw: Callable[[], float],
    patience: float,
) -> Door:
    """The parts, not yet running."""
    keys = KeyRing(store, peppers, keeping.plans, keep_stale=keeping.grace is not None)
    models = build_models(config)
    health = _health(config, models, metrics)
    return Door(
        models=models,
        catalog=cfg.build_catalog(config),
        providers=build_providers(config),
        health=health,
        switches=_switches(store, health, log),
        keys=keys,
        images=images,
        ledger=_ledger(store, keys, keeping, metrics, config.server.support),
        upstreams=open_transports(),
        metrics=metrics,
        log=log,
        store=store,
        directory=Directory(store, peppers),
        heart=Heartbeat(store),
        background=Background(),
        pulse=Pulse(config.server.stream_keep_alive),
        draw=draw,
        max_body=config.server.max_body,
        patience=patience,
        grace=keeping.grace is not None,
    )


def _health(config: cfg.Config, models: Mapping[str, Model], metrics: Metrics) -> Health:
    health = build_health(config, models)
    for model, roster in health.rosters.items():
        for provider, group in roster.by_provider.items():
            shown = metrics.available.labels(provider, model)
            metrics.show(shown, partial(_available, group))
    return health


def _switches(store: Store, health: Health, log: logs.Log) -> Switches:
    def told(off: frozenset[Pair]) -> None:
        health.disabled = off
        if off:
            log.warning("targets_disabled", targets=sorted(f"{m} at {p}" for m, p in off))
        else:
            log.info("targets_enabled")

    pairs = {(m, p) for m, roster in health.rosters.items() for p in roster.by_provider}
    return Switches(store, pairs, told)


def _available(standings: Sequence[Standing]) -> float:
    now = monotonic()
    return float(any(standing.available(now) for standing in standings))


def _ledger(
    store: Store, keys: KeyRing, keeping: Keeping, metrics: Metrics, support: str
) -> Ledger:
    def ended(lease: Lease) -> None:
        keeping.used[lease.team] = lease.access
        if lease.charge is not None:
            metrics.charged(lease.access.key, lease.model, lease.charge)

    journal = Journal(keeping.journals)
    ledger = Ledger(
        store,
        keys,
        support=support,
        observer=ended,
        journal=journal,
        marks=keeping.marks,
        grace=keeping.grace,
        alarm=keeping.alarm,
    )
    metrics.show(metrics.reserved, lambda: float(ledger.reserved_tokens))
    metrics.show(metrics.journal, lambda: float(journal.entries))
    return ledger


def public_app(door: Door, config: cfg.Config) -> web.Application:
    """The public listener's application."""
    app = _app(door, config, recorded=True)
    app.router.add_post("/v1/chat/completions", chat_completions, expect_handler=expect_later)
    app.router.add_get("/v1/models", public.list_models)
    app.router.add_get("/v1/models/{model:.+}", public.show_model)
    app.router.add_get("/v1/usage", public.show_usage)
    app.router.add_get("/healthz", public.health)
    return app


def admin_app(door: Door, config: cfg.Config) -> web.Application:
    """The operators' listener's application; its requests are nobody's usage."""
    app = _app(door, config, recorded=False)
    ops.add_routes(app)
    if token := config.admin.token.get_secret_value():
        admin.add_routes(app, token, config)
    return app


def _app(door: Door, config: cfg.Config, *, recorded: bool) -> web.Application:
    trusted = config.server.trusted_proxies
    middleware = watch(door, trusted, recorded=recorded)
    app = web.Application(middlewares=[middleware], client_max_size=door.max_body)
    app[DOOR] = door
    app[REFUSE] = refuser(door, trusted, recorded=recorded)
    app.on_response_prepare.append(name_request)
    return app
