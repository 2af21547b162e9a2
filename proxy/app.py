"""The composition root: a Config in, the gateway's parts out, and their life together."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final

from aiohttp import web

from proxy import config as cfg
from proxy import logs
from proxy.access import Access, Plan, open_access
from proxy.domain.errors import GatewayError, StoreUnavailable
from proxy.domain.identity import KeyRecord, encode_record
from proxy.domain.limits import ANY_MODEL
from proxy.images.guard import ImageGuard
from proxy.metrics import Metrics
from proxy.rules import build_models, build_plans, build_providers
from proxy.store.client import Store, end_tasks
from proxy.store.directory import Directory
from proxy.store.journal import Journal, replay
from proxy.store.keyring import KeyRing
from proxy.store.ledger import Lease, Ledger
from proxy.upstream.over_aiohttp import AiohttpTransport
from proxy.web import admin, ops, public
from proxy.web.background import Background
from proxy.web.chat import chat_completions
from proxy.web.door import DOOR, Door
from proxy.web.middleware import name_request, refuser, watch
from proxy.web.read import expect_later
from proxy.web.server import REFUSE

PATIENCE: Final = 60.0  # seconds that a client may read nothing
_SETTLE_DEADLINE: Final = 10.0  # seconds
_HOUSE_EVERY: Final = 15.0  # seconds
_SHOW_EVERY: Final = 0.5

#: Below the data directory: settlements that the store could not take.
JOURNAL: Final = "journal"


def _assemble(
    config: cfg.Config,
    store_url: str,
    peppers: Sequence[str],
    plans: Mapping[str, Plan],
    used: dict[str, Access],
    *,
    log: logs.Log,
    draw: Callable[[], float],
    patience: float,
) -> Door:
    """The parts, not yet running. `used` gets the accesses of the teams that use something."""
    metrics = Metrics(max_keys=config.metrics.max_keys, config_hash=config.fingerprint)
    store = Store.open(store_url, metrics.stored)
    keys = KeyRing(store, peppers, plans)
    journal = Journal(config.store.data / JOURNAL)
    ledger = Ledger(
        store,
        keys,
        support=config.server.support,
        observer=_observer(metrics, used),
        journal=journal,
    )
    metrics.reserved.set_function(lambda: float(ledger.reserved_tokens))
    metrics.journal.set_function(lambda: float(journal.entries))
    return Door(
        models=build_models(config),
        providers=build_providers(config),
        keys=keys,
        images=ImageGuard(metrics.image),
        ledger=ledger,
        upstream=AiohttpTransport(),
        metrics=metrics,
        log=log,
        store=store,
        directory=Directory(store, peppers),
        background=Background(),
        draw=draw,
        max_body=config.server.max_body,
        patience=patience,
    )


@asynccontextmanager
async def open_door(
    config: cfg.Config,
    store_url: str,
    peppers: Sequence[str],
    *,
    log: logs.Log | None = None,
    draw: Callable[[], float] = random.random,
    patience: float = PATIENCE,
) -> AsyncIterator[Door]:
    """Everything that serves, running; stopped in order on leaving, settlements last.

    Raises StoreUnavailable or SchemaError where the store cannot be used.
    """
    used: dict[str, Access] = {}
    plans = build_plans(config)
    door = _assemble(
        config,
        store_url,
        peppers,
        plans,
        used,
        log=log or logs.get(),
        draw=draw,
        patience=patience,
    )
    keepers: list[asyncio.Task[None]] = []
    try:
        await door.store.check_schema()
        await door.keys.start()
        await door.ledger.start()
        house = _keep_house(door, plans, config.store.data / JOURNAL)
        keepers = [asyncio.create_task(work) for work in (house, _show_used(door, used))]
        yield door
    finally:
        await end_tasks(*keepers)
        await door.background.stop(config.server.drain)
        await door.ledger.stop(_SETTLE_DEADLINE)
        await door.keys.stop()
        await door.upstream.close()
        await door.store.close()


def _observer(metrics: Metrics, used: dict[str, Access]) -> Callable[[Lease], None]:
    def ended(lease: Lease) -> None:
        used[lease.team] = lease.access
        if lease.charge is not None:
            metrics.charged(lease.access.key, lease.model, lease.charge)

    return ended


async def _keep_house(door: Door, plans: Mapping[str, Plan], journals: Path) -> None:
    """Every few seconds: make the settlements that dead workers left, show the teams' limits,
    and, by looking at them, free the leases that have run out.
    """
    while True:
        with contextlib.suppress(StoreUnavailable, OSError):
            replayed = await replay(door.store, journals, time.time())
            if replayed.settled or replayed.too_old:
                door.log.warning("journal", **asdict(replayed))
            for team in await door.directory.teams():
                await _show_limits(door, _team_access(encode_record(team), plans))
        await asyncio.sleep(_HOUSE_EVERY)


async def _show_used(door: Door, used: dict[str, Access]) -> None:
    """Soon after a team used something, show what is left of its limits."""
    while True:
        await asyncio.sleep(_SHOW_EVERY)
        await door.ledger.settled()
        with contextlib.suppress(StoreUnavailable):
            while used:
                await _show_limits(door, used.popitem()[1])


async def _show_limits(door: Door, access: Access | None) -> None:
    if access is None:
        return
    wanted = (b for b in access.bounds if b.scope == "team" and b.limit.model == ANY_MODEL)
    _, states = await door.ledger.peek(access.team.name, tuple(wanted))
    door.metrics.limits(access.team.name, states)


def _team_access(blob: bytes, plans: Mapping[str, Plan]) -> Access | None:
    nobody = encode_record(KeyRecord(id="", team="", name="", created_at=0))
    try:
        return open_access("", blob, nobody, plans)
    except GatewayError:
        return None  # its plan is not in this config: its keys are told so


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
        admin.add_routes(app, token)
    return app


def _app(door: Door, config: cfg.Config, *, recorded: bool) -> web.Application:
    middleware = watch(config.server.trusted_proxies, recorded=recorded)
    app = web.Application(middlewares=[middleware], client_max_size=door.max_body)
    app[DOOR] = door
    app[REFUSE] = refuser(door, recorded=recorded)
    app.on_response_prepare.append(name_request)
    return app
