"""The contract's names and defaults, one by one."""

from __future__ import annotations

from decimal import Decimal
from functools import reduce
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from proxy.config import Config

from .samples import SMALL, found, read

DEFAULTS = {
    "server.host": "0.0.0.0",
    "server.port": 8080,
    "server.workers": "auto",
    "server.max_body": 33_554_432,
    "server.drain": 300,
    "server.keep_alive": 75,
    "server.stream_keep_alive": 15,
    "server.trusted_proxies": (),
    "server.tls": None,
    "server.support": "",
    "admin.host": "127.0.0.1",
    "admin.port": 9090,
    "admin.token": SecretStr(""),
    "admin.tls": None,
    "store.on_failure": "deny",
    "store.grace": Decimal("0.05"),
    "store.retention": 25,
    "store.data": Path("./var"),
    "store.wait_replicas": 0,
    "keys.pepper": (),
    "metrics.max_keys": 1000,
    "providers.openai.kind": "openai",
    "providers.openai.api_version": "",
    "providers.openai.quirks": "openai",
    "providers.openai.api_keys": (),
    "providers.openai.image_urls": "forward",
    "providers.openai.transport": "direct",
    "providers.openai.timeouts.connect": 5,
    "providers.openai.timeouts.first_byte": 120,
    "providers.openai.timeouts.idle": 60,
    "providers.openai.timeouts.total": 900,
    "providers.openai.breaker.failures": 5,
    "providers.openai.breaker.pause": 5,
    "models.gpt-4o.targets.0.model": "gpt-4o",
    "models.gpt-4o.targets.0.weight": 1,
    "models.gpt-4o.targets.0.priority": 1,
    "models.gpt-4o.targets.0.concurrent": 0,
    "models.gpt-4o.targets.0.price": None,
    "models.gpt-4o.aliases": (),
    "models.gpt-4o.retries": 2,
    "models.gpt-4o.price": None,
    "models.gpt-4o.max_output": 16384,
    "models.gpt-4o.context": 128_000,
    "models.gpt-4o.output_param": "max_tokens",
    "models.gpt-4o.vision": True,
    "models.gpt-4o.image_tokens": "gpt-4o",
    "plans.default.models": ("*",),
    "plans.default.max_tokens.default": None,
    "plans.default.max_tokens.cap": None,
    "plans.default.max_tokens.over": "clamp",
    "plans.default.limits": (),
    "plans.default.low_budget": "reject",
    "plans.default.require_stream": False,
    "plans.default.on_client_gone": "cancel",
    "plans.default.allow_parameters": (),
    "plans.default.enforce": True,
    "images.mode": "inspect",
    "images.on_unreachable": "assume_largest",
    "images.schemes": ("https", "data"),
    "images.ports": (443,),
    "images.hosts.allow": ("*",),
    "images.hosts.deny": (),
    "images.hosts.internal": (),
    "images.formats": ("png", "jpeg", "gif", "webp"),
    "images.max_count": 10,
    "images.max_bytes": 20_971_520,
    "images.max_pixels": 50_000_000,
    "images.max_side": 8000,
    "images.max_frames": 1,
    "images.detail.default": None,
    "images.detail.cap": None,
    "images.rewrite": (),
    "images.egress_proxy": None,
}


def at(config: Config, path: str) -> object:
    def step(value: Any, name: str) -> Any:
        if isinstance(value, dict):
            return value[name]
        return value[int(name)] if isinstance(value, tuple) else getattr(value, name)

    return reduce(step, path.split("."), config)


def leaves(value: object, path: str = "") -> set[str]:
    """The paths of all values in a config, those of lists of plain values as one."""
    if isinstance(value, BaseModel):
        items = {name: getattr(value, name) for name in type(value).model_fields}
    elif isinstance(value, dict):
        items = value
    elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
        items = {str(index): item for index, item in enumerate(value)}
    else:
        return {path}
    return {
        leaf
        for name, item in items.items()
        for leaf in leaves(item, f"{path}.{name}".removeprefix("."))
    }


@pytest.mark.parametrize(("path", "value"), DEFAULTS.items())
def test_default(path: str, value: object) -> None:
    """What is not written has the contract's default."""
    assert at(read(SMALL), path) == value


def test_every_leaf_has_its_default_asserted() -> None:
    """No option escapes the table above but those that SMALL writes."""
    written = {
        "store.url",
        "providers.openai.base_url",
        "providers.openai.api_key",
        "models.gpt-4o.targets.0.provider",
    }
    options = {leaf for leaf in leaves(read(SMALL)) if not leaf.startswith("plans.default.images")}
    assert options - written == DEFAULTS.keys()


def test_null_is_not_written() -> None:
    """A block whose every option is commented out, which YAML reads as null, has its defaults."""
    text = SMALL + "server:\nplans: {default: }\nimages: {hosts: , max_count: null}\n"
    assert read(text).fingerprint == read(SMALL).fingerprint


def test_required() -> None:
    """Only store.url, providers and models must be written, and all three are told at once."""
    assert found("server: {}") == dict.fromkeys(("store", "providers", "models"), "required")
    assert found(SMALL.replace("url: embedded", "")) == {"store.url": "required"}


def test_empty_blocks() -> None:
    """Providers and models need at least one entry, and a model at least one target."""
    text = "store: {url: embedded}\nproviders: {}\nmodels: {gpt-4o: {targets: []}}"
    assert found(text) == {
        "providers": "must not be empty",
        "models.gpt-4o.targets": "must not be empty",
    }


def test_every_value_can_be_written() -> None:
    """Each option takes a value other than its default, in its own notation."""
    config = read("""\
server: {host: "::1", port: 81, workers: 1, max_body: 20MB, drain: 2h, keep_alive: 1h,
  stream_keep_alive: 0, trusted_proxies: [10.0.0.0/8, "::1", 192.0.2.7], support: ask us}
admin: {host: 0.0.0.0, port: 0, token: a-token}
store: {url: rediss://u:pw@valkey.example:6380/1, grace: 0%, retention: 25 months,
  data: /srv, wait_replicas: 2}
keys: {pepper: "0123456789abcdef, fedcba9876543210"}
metrics: {max_keys: 0}
providers:
  local: {base_url: "http://127.0.0.1:11434/v1/", timeouts: {connect: 250ms, total: 1d},
    breaker: {failures: 0, pause: 250ms}}
  two: {base_url: https://two.example/openai/v1, api_keys: [a, b]}
models:
  mine:
    targets: [{provider: local, model: llava:13b, weight: 0.5, priority: 2, concurrent: 4,
      price: {input: 0, output: 0}}, {provider: two}]
    aliases: [ours, theirs]
    retries: 0
    price: {input: 0.15, output: 1, cached_input: 0.075, cache_write: 0.2}
    max_output: 1000
    output_param: max_completion_tokens
    vision: false
    image_tokens: gpt-4o
plans:
  narrow: {models: [mine], limits: [60 requests/minute, {limit: 5 usd/month, model: mine}],
    max_tokens: {default: 10, cap: 20, over: reject}, require_stream: true, enforce: false,
    low_budget: shrink, on_client_gone: drain, allow_parameters: [service_tier],
    images: {max_count: 2, hosts: {deny: [b.example, 8.8.4.0/24]}}}
images: {on_unreachable: reject, schemes: [http], ports: [80], formats: [png], max_count: 1k,
  max_bytes: 1MiB, max_pixels: 1M, max_side: 100, max_frames: 2,
  hosts: {allow: ["*.example", bücher.example, 8.8.0.0/16],
    internal: [10.0.0.0/8, cdn.corp]},
  detail: {default: low, cap: original}, rewrite: [{from: "http://", to: "https://"}]}
""")
    assert config.server.trusted_proxies == tuple(
        map(ip_network, ("10.0.0.0/8", "::1", "192.0.2.7"))
    )
    assert config.server.max_body == 20_000_000
    assert (config.server.drain, config.server.keep_alive) == (7200, 3600)
    assert config.server.stream_keep_alive == 0
    assert config.store.address == "rediss://valkey.example:6380/1"
    assert (config.store.embedded, config.store.wait_replicas) == (False, 2)
    assert [pepper.get_secret_value() for pepper in config.keys.pepper] == [
        "0123456789abcdef",
        "fedcba9876543210",
    ]
    assert config.providers["local"].base_url == "http://127.0.0.1:11434/v1"
    assert config.providers["local"].secrets == ()
    assert config.providers["local"].timeouts.connect == 0.25
    assert config.providers["two"].secrets == ("a", "b")
    assert config.providers["local"].breaker.failures == 0
    assert config.providers["local"].breaker.pause == 0.25
    assert config.models["mine"].aliases == ("ours", "theirs")
    own, other = config.models["mine"].targets
    assert (own.model, own.weight, other.model) == ("llava:13b", 0.5, "mine")
    assert (own.concurrent, config.models["mine"].retries) == (4, 0)
    assert own.price is not None
    assert own.price.output == 0
    assert other.price == config.models["mine"].price
    assert other.price is not None
    assert other.price.input == Decimal("0.15")
    assert not config.models["mine"].vision
    assert list(map(str, config.plans["narrow"].limits)) == [
        "60 requests/minute",
        "5 usd/month on mine",
    ]
    assert config.images.rewrite[0].from_ == "http://"
    assert config.images.max_count == 1000


def test_default_plan_always_exists() -> None:
    """The plan named default is there beside any others."""
    assert set(read(SMALL + "plans: {gold: {}}").plans) == {"default", "gold"}


def test_plan_images_are_whole() -> None:
    """A plan's images are the images block but for what the plan writes, block by block."""
    config = read(
        SMALL
        + "images: {max_count: 5, hosts: {deny: [a.example]}}\n"
        + "plans: {small: {images: {max_count: 2, hosts: {allow: [b.example]}}}}"
    )
    small = config.plans["small"].images
    assert (small.max_count, small.hosts.allow, small.hosts.deny) == (
        2,
        ("b.example",),
        ("a.example",),
    )
    assert config.plans["default"].images == config.images


def test_cached_input_costs_the_input_price() -> None:
    """Without a price of its own, a cached token costs what any input token costs."""
    price = read(SMALL + "    price: {input: 2.50, output: 10}").models["gpt-4o"].price
    assert price is not None
    assert (price.cached_input, price.cache_write) == (Decimal("2.50"), Decimal(0))


def test_frozen() -> None:
    """A config cannot be changed once it is read."""
    with pytest.raises(ValueError, match="frozen"):
        read(SMALL).server.port = 1


def test_fingerprint() -> None:
    """The fingerprint changes with what the config does, and not with a secret or a comment."""
    base = read(SMALL).fingerprint
    assert len(base) == 12
    assert read("# more\n" + SMALL.replace("sk-test", "sk-other")).fingerprint == base
    assert read(SMALL + "server: {port: 81}").fingerprint != base
    assert read(SMALL + "plans: {default: {limits: [1 images/day]}}").fingerprint != base
    remote = [
        SMALL.replace("embedded", f"redis://:{password}@{host}")
        for password, host in (("one", "a"), ("two", "a"), ("one", "b"))
    ]
    env = {"VISIONGATE_KEY_PEPPER": "0123456789abcdef"}
    one, two, elsewhere = (read(text, env).fingerprint for text in remote)
    assert one == two != elsewhere
