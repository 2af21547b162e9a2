"""The composition root: a Config in, the gateway's parts out, and their life together."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from proxy import config as cfg
from proxy import logs
from proxy.access import Access, Plan, open_access
from proxy.domain.chat import ImagePart
from proxy.domain.errors import GatewayError, StoreUnavailable
from proxy.domain.estimate import ImageCost, OutputCap
from proxy.domain.identity import KeyRecord, encode_record
from proxy.domain.limits import ANY_MODEL
from proxy.domain.routing import Model, Target
from proxy.domain.tokenizer import Tokenizer, tokenizer_for
from proxy.domain.usage import FREE, Price
from proxy.images.guard import ImageGuard
from proxy.images.policy import ImagePolicy
from proxy.images.rewrite import RewriteRule
from proxy.images.tokens import formula_for, image_tokens, largest
from proxy.images.urls import UrlRules
from proxy.metrics import Metrics
from proxy.store.client import Store, end_tasks
from proxy.store.directory import Directory
from proxy.store.keyring import KeyRing
from proxy.store.ledger import Lease, Ledger
from proxy.upstream.call import Provider, Timeouts
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
_LIMITS_EVERY: Final = 15.0  # seconds between two looks at the teams' limits


def build_models(config: cfg.Config) -> dict[str, Model]:
    """The models of a config, with their tokenizers and image formulas."""
    return {name: _model(name, model) for name, model in config.models.items()}


def _model(name: str, model: cfg.Model) -> Model:
    targets = tuple(
        Target(t.provider, t.model, t.weight, t.priority, _price(t.price)) for t in model.targets
    )
    return Model(
        name=name,
        targets=targets,
        max_output=model.max_output,
        output_param=model.output_param,
        vision=model.vision,
        hidden_output=model.output_param == "max_completion_tokens",
        tokenizer=_dearest_tokenizer({target.model for target in targets}),
        image_cost=_dearest_image(
            # A name of ours says nothing of the price; those of the targets do.
            {target.model for target in targets}
            if model.image_tokens == name
            else {model.image_tokens}
        ),
    )


def _price(price: cfg.Price | None) -> Price:
    if price is None:
        return FREE
    return Price.from_usd(price.input, price.output, price.cached_input, price.cache_write)


def _dearest_tokenizer(models: set[str]) -> Tokenizer:
    """The most tokens that any of the models makes of a text; its vocabularies are loaded."""
    counts = {tokenizer_for(model) for model in models}
    for count in counts:
        count(("a text, so that the first request need not wait",))
    return counts.pop() if len(counts) == 1 else lambda texts: max(c(texts) for c in counts)


def _dearest_image(models: set[str]) -> ImageCost:
    """The most tokens that an image costs at any of the models."""
    formulas = [formula_for(model) for model in models]

    def cost(part: ImagePart) -> int:
        if part.sized:
            sides = part.width, part.height
            return max(image_tokens(formula, *sides, part.detail) for formula in formulas)
        return max(largest(formula, part.detail) for formula in formulas)

    return cost


def build_plans(config: cfg.Config) -> dict[str, Plan]:
    """The plans of a config, ready to be applied."""
    return {
        name: Plan(
            name=name,
            models=frozenset(plan.models),
            output=OutputCap(plan.max_tokens.default, plan.max_tokens.cap, plan.max_tokens.over),
            limits=plan.limits,
            require_stream=plan.require_stream,
            allow_parameters=frozenset(plan.allow_parameters),
            enforce=plan.enforce,
            images=image_policy(plan.images),
        )
        for name, plan in config.plans.items()
    }


def image_policy(images: cfg.Images) -> ImagePolicy:
    """The policy that an `images` block describes."""
    return ImagePolicy(
        mode=images.mode,
        urls=UrlRules(
            schemes=frozenset(images.schemes),
            ports=frozenset(images.ports),
            allow=images.hosts.allow,
            deny=images.hosts.deny,
        ),
        formats=frozenset(images.formats),
        max_count=images.max_count,
        max_bytes=images.max_bytes,
        max_pixels=images.max_pixels,
        max_side=images.max_side,
        max_frames=images.max_frames,
        detail_default=images.detail.default,
        detail_cap=images.detail.cap,
        rewrite=tuple(RewriteRule.parse(rule.from_, rule.to) for rule in images.rewrite),
    )


def build_providers(config: cfg.Config) -> dict[str, Provider]:
    """The providers of a config, with their secrets."""
    return {
        name: Provider(
            name=name,
            kind=provider.kind,
            base_url=str(provider.base_url).rstrip("/"),
            api_keys=provider.secrets,
            timeouts=Timeouts(
                connect=provider.timeouts.connect,
                first_byte=provider.timeouts.first_byte,
                idle=provider.timeouts.idle,
                total=provider.timeouts.total,
            ),
        )
        for name, provider in config.providers.items()
    }


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
    metrics = Metrics(max_keys=config.metrics.max_keys, config_hash=config.fingerprint)
    store = Store.open(store_url, metrics.stored)
    plans = build_plans(config)
    keys = KeyRing(store, peppers, plans)
    ledger = Ledger(store, keys, support=config.server.support, observer=_observer(metrics))
    upstream = AiohttpTransport()
    metrics.reserved.set_function(lambda: float(ledger.reserved_tokens))
    door = Door(
        models=build_models(config),
        providers=build_providers(config),
        keys=keys,
        images=ImageGuard(metrics.image),
        ledger=ledger,
        upstream=upstream,
        metrics=metrics,
        log=log or logs.get(),
        store=store,
        directory=Directory(store, peppers),
        background=Background(),
        draw=draw,
        max_body=config.server.max_body,
        patience=patience,
    )
    watcher: asyncio.Task[None] | None = None
    try:
        await store.check_schema()
        await keys.start()
        await ledger.start()
        watcher = asyncio.create_task(_watch_limits(door, plans), name="watch-limits")
        yield door
    finally:
        if watcher is not None:
            await end_tasks(watcher)
        await door.background.stop(config.server.drain)
        await ledger.stop(_SETTLE_DEADLINE)
        await keys.stop()
        await upstream.close()
        await store.close()


def _observer(metrics: Metrics) -> Callable[[Lease], None]:
    def ended(lease: Lease) -> None:
        if lease.charge is not None:
            metrics.charged(lease.access.key, lease.model, lease.charge)

    return ended


async def _watch_limits(door: Door, plans: Mapping[str, Plan]) -> None:
    """Show the teams' limits, and free what dead workers left, every few seconds."""
    while True:
        with contextlib.suppress(StoreUnavailable):
            for team in await door.directory.teams():
                await _show_limits(door, _team_access(encode_record(team), plans))
        await asyncio.sleep(_LIMITS_EVERY)


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
