"""What rests on more than one place of a configuration.

These read the data as it was written, so that they also speak where other parts are wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeVar

from pydantic import ValidationError

from proxy.domain.limits import ANY_MODEL, LimitSyntax, parse_limit
from proxy.images.hosts import compile_patterns
from proxy.images.rewrite import RewriteRule

from .block import Block, overlay
from .fields import STORE_SCHEMES
from .images import Images, Rewrite
from .known import known_model
from .problems import Path, nearest, show_path
from .providers import find_wrong
from .schema import MaxTokens, Model

Data = Mapping[str, object]
Finding = tuple[Path, str]
B = TypeVar("B", bound=Block)

#: Names that must be keys of another block; "*" stands for all of them where it is written last.
_REFERENCES: Final = (
    ("models.*.targets.*.provider", "providers", ()),
    ("plans.*.models.*", "models", (ANY_MODEL,)),
    ("plans.*.limits.*.model", "models", (ANY_MODEL,)),
)

#: A plan may have no more of these than the images block.
_AMOUNTS: Final = ("max_count", "max_bytes", "max_pixels", "max_side", "max_frames")
_CHOICES: Final = ("schemes", "ports", "formats")
#: From the least that is checked to the most.
_ORDERS: Final = {
    "mode": ("url", "inspect", "inline"),
    "on_unreachable": ("assume_largest", "reject"),
}
#: From the most that a detail may cost; auto is a model's choice, which may be original.
_CAPS: Final = ("original", "auto", "high", "low")


def walk(value: object, pattern: str) -> Iterator[tuple[Path, object]]:
    """What is written where the dotted pattern says; `*` is any key or index."""
    return _walk(value, tuple(pattern.split(".")), ())


def find_problems(data: Data) -> Iterator[Finding]:
    """Every problem between blocks, with its path."""
    for check in _CHECKS:
        yield from check(data)


def _walk(value: object, pattern: tuple[str, ...], path: Path) -> Iterator[tuple[Path, object]]:
    if not pattern:
        yield path, value
        return
    head, *rest = pattern
    if isinstance(value, Mapping):
        keys = value.keys() if head == "*" else value.keys() & {head}
        for key in keys:
            yield from _walk(value[key], tuple(rest), (*path, key))
    elif isinstance(value, tuple) and head == "*":
        for index, item in enumerate(value):
            yield from _walk(item, tuple(rest), (*path, index))


def _references(data: Data) -> Iterator[Finding]:
    for pattern, block, also in _REFERENCES:
        known = data.get(block)
        if not isinstance(known, Mapping):
            continue
        for path, name in walk(data, pattern):
            if isinstance(name, str) and name not in known and name not in also:
                what = block.removesuffix("s")
                yield path, f"unknown {what} {str(name)!r}{nearest(name, known)}"


def _provider_keys(data: Data) -> Iterator[Finding]:
    for path, provider in walk(data, "providers.*"):
        if isinstance(provider, Mapping) and provider.get("api_key") and provider.get("api_keys"):
            yield (*path, "api_keys"), "write api_key or api_keys, not both"


def _addresses(data: Data) -> Iterator[Finding]:
    for path, provider in walk(data, "providers.*"):
        if isinstance(provider, Mapping):
            for where, message in find_wrong(provider):
                yield (*path, *where), message


def _pepper(data: Data) -> Iterator[Finding]:
    remote = [
        url
        for _, url in walk(data, "store.url")
        if isinstance(url, str) and url.startswith(STORE_SCHEMES)
    ]
    if remote and not any(pepper for _, pepper in walk(data, "keys.pepper")):
        yield (
            ("keys", "pepper"),
            "required unless store.url is 'embedded'; set VISIONGATE_KEY_PEPPER to 16 or more "
            "random characters",
        )


def _max_output(data: Data) -> Iterator[Finding]:
    for path, model in walk(data, "models.*"):
        written = isinstance(model, Mapping) and model.get("max_output") is not None
        if not written and known_model(str(path[-1])) is None:
            yield (
                (*path, "max_output"),
                "required, because this is not a well-known name; the most tokens that one "
                "answer can have",
            )


def _contexts(data: Data) -> Iterator[Finding]:
    for path, block in walk(data, "models.*"):
        if model := _valid(Model, block):
            model = model.named(str(path[-1]))
            if 0 < model.context < model.max_output:
                yield (*path, "context"), f"is less than max_output, {model.max_output}"


def _aliases(data: Data) -> Iterator[Finding]:
    models = data.get("models")
    taken = {name: f"model {name!r}" for name in models} if isinstance(models, Mapping) else {}
    for path, alias in walk(data, "models.*.aliases.*"):
        if isinstance(alias, str):
            if alias in taken:
                yield path, f"{alias!r} is {taken[alias]} already"
            taken.setdefault(alias, f"an alias of {str(path[1])!r}")


def _prices(data: Data) -> Iterator[Finding]:
    usd = next((path for path, limit in walk(data, "plans.*.limits.*") if _counts_usd(limit)), None)
    if usd is None:
        return
    for path, model in walk(data, "models.*"):
        if isinstance(model, Mapping) and not _has_price(model):
            yield (
                (*path, "price"),
                f"model {str(path[-1])!r} has no price, but {show_path(usd)} counts usd; a free "
                "model's is {input: 0, output: 0}",
            )


def _has_price(model: Mapping[str, object]) -> bool:
    targets = [target for _, target in walk(model, "targets.*") if isinstance(target, Mapping)]
    own = bool(targets) and all(target.get("price") is not None for target in targets)
    return own or model.get("price") is not None


def _counts_usd(limit: object) -> bool:
    text = limit.get("limit") if isinstance(limit, Mapping) else limit
    try:
        return isinstance(text, str) and parse_limit(text).unit == "usd"
    except LimitSyntax:
        return False


def _max_tokens(data: Data) -> Iterator[Finding]:
    for path, block in walk(data, "plans.*.max_tokens"):
        tokens = _valid(MaxTokens, block)
        if tokens and tokens.default and tokens.cap and tokens.default > tokens.cap:
            yield (*path, "default"), f"is above the cap, {tokens.cap}"


def _tightening(data: Data) -> Iterator[Finding]:
    base = _valid(Images, data.get("images"))
    for path, block in walk(data, "plans.*.images"):
        over = _valid(Images, block)
        if base is not None and over is not None:
            for where, message in _loosened(base, overlay(base, over)):
                yield (*path, *where), f"{message}; a plan may only tighten it"


def _loosened(base: Images, plan: Images) -> Iterator[Finding]:
    for name in _AMOUNTS:
        if getattr(plan, name) > getattr(base, name):
            yield (name,), f"is above images.{name}"
    for name in _CHOICES:
        extra = set(getattr(plan, name)) - set(getattr(base, name))
        if extra:
            yield (name,), f"{min(map(str, extra))!r} is not in images.{name}"
    for name, order in _ORDERS.items():
        if order.index(getattr(plan, name)) < order.index(getattr(base, name)):
            yield (name,), f"checks less than images.{name}"
    for name in ("allow", "internal"):
        wide = compile_patterns(getattr(base.hosts, name))
        for host in getattr(plan.hosts, name):
            if not wide.cover(compile_patterns((host,))):
                yield ("hosts", name), f"{host!r} is not in images.hosts.{name}"
    for host in set(base.hosts.deny) - set(plan.hosts.deny):
        yield ("hosts", "deny"), f"{host!r} of images.hosts.deny is missing"
    most, cap = base.detail.cap, plan.detail.cap
    if most and cap and _CAPS.index(cap) < _CAPS.index(most):
        yield ("detail", "cap"), f"is above images.detail.cap, {most}"


def _rewrites(data: Data) -> Iterator[Finding]:
    for pattern in ("images.rewrite.*", "plans.*.images.rewrite.*"):
        for path, block in walk(data, pattern):
            if rule := _valid(Rewrite, block):
                try:
                    RewriteRule.parse(rule.from_, rule.to)
                except ValueError as error:
                    yield path, str(error)


def _valid(block: type[B], data: object) -> B | None:
    """The block if nothing is wrong with it; if something is, that is told elsewhere."""
    try:
        return block.model_validate(data)
    except ValidationError:
        return None


def _global_only(data: Data) -> Iterator[Finding]:
    for path, value in walk(data, "plans.*.images.egress_proxy"):
        if value is not None:
            yield path, "no plan can set it; write it in the images block"


_CHECKS: Final[tuple[Callable[[Data], Iterator[Finding]], ...]] = (
    _references,
    _provider_keys,
    _addresses,
    _pepper,
    _max_output,
    _contexts,
    _aliases,
    _max_tokens,
    _prices,
    _tightening,
    _rewrites,
    _global_only,
)
