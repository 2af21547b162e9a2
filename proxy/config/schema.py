"""The shape of a configuration: one frozen class a block, as the YAML has it.

A null is as good as not written. What rests on more than one block is in `checks`.
"""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    SecretStr,
    ValidationInfo,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from proxy.domain.limits import ANY_MODEL, Limit, parse_limit

from . import fields as f
from .block import Block, overlay
from .images import Images
from .known import OutputParam, known_model, output_param
from .providers import check_kind, check_quirks, default_image_urls, default_quirks


class Tls(Block):
    """PEM files: a certificate with its chain, and its key; read by who listens."""

    cert: f.File
    key: f.File


class Server(Block):
    """The public listener. `port` 0 takes a free one; times are in seconds. `keep_alive`: of a
    connection's silence, before it is closed; `stream_keep_alive`: of a stream's, before a comment
    (0: none).
    """

    host: f.Host = "0.0.0.0"  # noqa: S104  (the front door is public)
    port: f.AnyPort = 8080
    workers: f.Workers = "auto"
    max_body: f.Bytes = 32 * 2**20
    drain: f.Seconds = 300.0
    keep_alive: f.Seconds = 75.0
    stream_keep_alive: f.SecondsOrNone = 15.0
    trusted_proxies: tuple[f.ProxyNetwork, ...] = ()
    tls: Tls | None = None
    support: str = ""


class Admin(Block):
    """The listener for operators. No token, no admin API."""

    host: f.Host = "127.0.0.1"
    port: f.AnyPort = 9090
    token: f.Token = SecretStr("")
    tls: Tls | None = None


class Store(Block):
    """Where teams, keys and the ledger live. `grace` is a share of one, `retention` months."""

    url: f.StoreUrl
    on_failure: Literal["deny", "allow"] = "deny"
    grace: f.Share = Decimal("0.05")
    retention: f.Months = 25
    data: f.Directory = Path("var")
    wait_replicas: f.Natural = 0

    @property
    def embedded(self) -> bool:
        """Whether this gateway runs its own store."""
        return self.url.get_secret_value() == f.EMBEDDED

    @property
    def address(self) -> str:
        """The URL without user, password and query, fit to be shown."""
        return f.EMBEDDED if self.embedded else f.shown_place(self.url)


class Keys(Block):
    """`pepper`: the first signs, all verify; none where the embedded store keeps its own."""

    pepper: f.Peppers = ()


class Metrics(Block):
    """Keys beyond `max_keys`, of all workers, are counted as key="other"."""

    max_keys: f.Natural = 1000


class Timeouts(Block):
    """Seconds. `idle` is the longest silence within a stream."""

    connect: f.Seconds = 5.0
    first_byte: f.Seconds = 120.0
    idle: f.Seconds = 60.0
    total: f.Seconds = 900.0


class Breaker(Block):
    """A target that failed so many times in a row gets no requests for a while, in seconds."""

    failures: f.Natural = 5
    pause: f.Seconds = 5.0


class Provider(Block):
    """An upstream. A local server may have no key. `quirks` is whose of providers/quirks.py."""

    kind: Annotated[str, AfterValidator(check_kind)] = "openai"
    base_url: f.BaseUrl
    api_version: f.ApiVersion = ""
    quirks: Annotated[str, AfterValidator(check_quirks)] = Field(default_factory=default_quirks)
    api_key: f.Secret | None = None
    api_keys: tuple[f.Secret, ...] = ()
    image_urls: Literal["forward", "inline"] = Field(default_factory=default_image_urls)
    transport: Literal["direct", "aiohttp"] = "direct"
    timeouts: Timeouts = Timeouts()
    breaker: Breaker = Breaker()

    @property
    def secrets(self) -> tuple[str, ...]:
        """The keys to call it with, however they were written; may be empty."""
        written = self.api_keys if self.api_key is None else (self.api_key,)
        return tuple(key.get_secret_value() for key in written)


class Price(Block):
    """USD per million tokens, exact. What is cached costs the full input price if not written."""

    input: f.Usd
    output: f.Usd
    cached_input: f.Usd = Field(default_factory=lambda data: data.get("input", Decimal(0)))
    cache_write: f.Usd = Decimal(0)


class Target(Block):
    """Where a model is served. `model` is its name there; `concurrent` 0 is no cap."""

    provider: str
    model: str = ""
    weight: f.Weight = 1.0
    priority: f.Positive = 1
    concurrent: f.Natural = 0
    price: Price | None = None


class Model(Block):
    """A model as clients name it. In a Config all is filled in: a target has a `model` and,
    if there is one, a `price`; `max_output` is positive; `context` is 0 where it is not known."""

    targets: Annotated[tuple[Target, ...], f.NOT_EMPTY]
    aliases: tuple[f.Name, ...] = ()
    retries: f.Retries = 2
    price: Price | None = None
    max_output: f.Positive = 0
    context: f.CountFromZero = 0
    output_param: OutputParam = "max_tokens"
    vision: f.Bool = True
    image_tokens: str = ""

    def named(self, name: str) -> Self:
        """With what was not written found from the name."""
        known = known_model(name)
        found: dict[str, Any] = {"output_param": output_param(name), "image_tokens": name}
        if known:
            found |= {
                "max_output": known.max_output,
                "context": known.context,
                "vision": known.vision,
            }
        targets = tuple(
            target.model_copy(
                update={"model": target.model or name, "price": target.price or self.price}
            )
            for target in self.targets
        )
        missing = {key: found[key] for key in found.keys() - self.model_fields_set}
        return self.model_copy(update={"targets": targets, **missing})


class _LimitBlock(Block):
    """`60 requests/minute`, or a mapping with that and a model."""

    limit: str
    model: str = ANY_MODEL

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, data: object) -> object:
        return {"limit": data} if isinstance(data, str) else data

    def parse(self) -> Limit:
        return parse_limit(self.limit, self.model)


class _ReadLimit:
    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(
            _LimitBlock.parse,
            handler(_LimitBlock),
            serialization=core_schema.to_string_ser_schema(),
        )


class MaxTokens(Block):
    """Tokens of output. null: the model's max_output."""

    default: f.Positive | None = None
    cap: f.Positive | None = None
    over: Literal["clamp", "reject"] = "clamp"


class Plan(Block):
    """The policy of the teams that have this plan. In a Config, `images` is the images block
    with what this plan tightens."""

    models: tuple[str, ...] = (ANY_MODEL,)
    max_tokens: MaxTokens = MaxTokens()
    limits: tuple[Annotated[Limit, _ReadLimit], ...] = ()
    low_budget: Literal["reject", "shrink"] = "reject"
    require_stream: f.Bool = False
    on_client_gone: Literal["cancel", "drain"] = "cancel"
    allow_parameters: tuple[str, ...] = ()
    enforce: f.Bool = True
    images: Images = Images()


def _name_models(models: dict[str, Model]) -> dict[str, Model]:
    return {name: model.named(name) for name, model in models.items()}


def _add_default_plan(plans: object) -> object:
    return {"default": {}, **plans} if isinstance(plans, dict) else plans


def _complete_images(plans: dict[str, Plan], info: ValidationInfo) -> dict[str, Plan]:
    base = info.data.get("images", Images())  # validated before, or told to be wrong
    return {
        name: plan.model_copy(update={"images": overlay(base, plan.images)})
        for name, plan in plans.items()
    }


class Config(Block):
    """A whole configuration. `plans` always holds `default`."""

    server: Server = Server()
    admin: Admin = Admin()
    store: Store
    keys: Keys = Keys()
    metrics: Metrics = Metrics()
    providers: Annotated[dict[f.Name, Provider], f.NOT_EMPTY]
    models: Annotated[dict[f.Name, Model], f.NOT_EMPTY, AfterValidator(_name_models)]
    images: Images = Images()
    plans: Annotated[
        dict[f.Name, Plan], BeforeValidator(_add_default_plan), AfterValidator(_complete_images)
    ] = Field(default_factory=dict, validate_default=True)

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits that change with what the config does; no secret enters them."""
        proxy = self.images.egress_proxy
        places = {"store_address": self.store.address, "egress": proxy and f.shown_place(proxy)}
        effective = self.model_dump(mode="json") | places
        text = json.dumps(effective, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]
