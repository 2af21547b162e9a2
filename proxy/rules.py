"""A Config's rules as the request path wants them: models, plans, providers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from yarl import URL

from proxy import config as cfg
from proxy.access import Plan
from proxy.domain.chat import ImagePart
from proxy.domain.estimate import ImageCost, OutputCap
from proxy.domain.health import BreakerRules
from proxy.domain.parameters import PART_DETAILS
from proxy.domain.routing import Health, Model, Target
from proxy.domain.tokenizer import Tokenizer, dearest, tokenizer_for
from proxy.domain.usage import FREE, Price
from proxy.images.policy import ImagePolicy
from proxy.images.rewrite import RewriteRule
from proxy.images.tokens import UNKNOWN, formula_for, image_tokens, largest
from proxy.images.urls import UrlRules
from proxy.providers.kind import Kind, Variant
from proxy.providers.registry import kind_of
from proxy.upstream.call import Provider, Timeouts

#: Models that think before they answer, in tokens that a stream does not show.
_THINKS: Final = re.compile(
    r"(?:^|/)(?:o\d|gpt-5)|gemini-(?:2\.5|[3-9])|deepseek-(?:r|reasoner)|qwq|qwen3"
    r"|grok-(?:3-mini|[4-9])|magistral|gpt-oss|thinking|reason"
    # From the fifth on, unless it is switched off. Source:
    # https://platform.claude.com/docs/en/models/opus-5/whats-new-opus-5
    r"|claude-[a-z]+-(?:[5-9]|[1-9]\d\b|preview)"
)


def build_models(config: cfg.Config) -> dict[str, Model]:
    """The models of a config, by name and by alias, with their tokenizers and image formulas."""
    built = {
        name: _model(name, model, {t.provider: config.providers[t.provider] for t in model.targets})
        for name, model in config.models.items()
    }
    aliases = {
        alias: built[name] for name, model in config.models.items() for alias in model.aliases
    }
    return built | aliases


def build_health(config: cfg.Config, models: Mapping[str, Model]) -> Health:
    """How the targets of these models stand to begin with."""
    providers = config.providers
    rules = {
        name: BreakerRules(provider.breaker.failures, provider.breaker.pause)
        for name, provider in providers.items()
    }
    keys = {name: len(provider.secrets) for name, provider in providers.items()}
    return Health(models.values(), keys, rules.__getitem__)


def _model(name: str, model: cfg.Model, providers: dict[str, cfg.Provider]) -> Model:
    targets = tuple(
        Target(
            t.provider,
            t.model,
            t.weight,
            t.priority,
            _price(t.price),
            url=_kind(providers[t.provider]).url(providers[t.provider].base_url, t.model),
            concurrent=t.concurrent,
        )
        for t in model.targets
    )
    served = {
        _served(target.model, (name, model.image_tokens), providers[target.provider])
        for target in targets
    }
    return Model(
        name=name,
        targets=targets,
        max_output=model.max_output,
        output_param=model.output_param,
        vision=model.vision,
        hidden_output=model.output_param == "max_completion_tokens"
        or any(map(_THINKS.search, served)),
        tokenizer=_dearest_tokenizer(served),
        image_cost=_dearest_image(
            # The targets' names say more of the price than ours, where they say anything.
            {_known(target) or name for target in served}
            if model.image_tokens == name
            else {model.image_tokens}
        ),
        inline_images=any(provider.image_urls == "inline" for provider in providers.values()),
        kinds=frozenset(filter(None, (_kind(p).image_limits for p in providers.values()))),
        retries=model.retries,
    )


def _kind(provider: cfg.Provider) -> Kind:
    return kind_of(provider.kind, Variant(provider.quirks, provider.api_version))


def _served(target: str, ours: tuple[str, ...], provider: cfg.Provider) -> str:
    """The name that tells which model a target is: a deployment's may be anything, and where it
    tells nothing, ours does.
    """
    names = (target, *ours) if _kind(provider).deployments else (target,)
    return next((name for name in names if _tells(name)), target)


def _tells(name: str) -> bool:
    return _known(name) is not None or tokenizer_for(name).exact


def _known(model: str) -> str | None:
    return model if formula_for(model) is not UNKNOWN else None


def _price(price: cfg.Price | None) -> Price:
    if price is None:
        return FREE
    return Price.from_usd(price.input, price.output, price.cached_input, price.cache_write)


def _dearest_tokenizer(models: set[str]) -> Tokenizer:
    """The most tokens that any of the models makes of a text; its vocabularies are loaded."""
    tokenizer = dearest({tokenizer_for(model) for model in models})
    tokenizer.guess(("a text, so that the first request need not wait",))
    return tokenizer


def _dearest_image(models: set[str]) -> ImageCost:
    """The most tokens that an image costs at any of the models."""
    formulas = {formula_for(model) for model in models}
    unsized = {
        detail: max(largest(formula, detail) for formula in formulas)
        for detail in (None, *PART_DETAILS)
    }

    def cost(part: ImagePart) -> int:
        if not part.width:
            return unsized[part.detail]
        sides = part.width, part.height
        return max([image_tokens(formula, *sides, part.detail) for formula in formulas])

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
            low_budget=plan.low_budget,
            on_client_gone=plan.on_client_gone,
        )
        for name, plan in config.plans.items()
    }


def egress_proxy(images: cfg.Images) -> URL | None:
    """The proxy that images are fetched by, its user and password included."""
    return URL(images.egress_proxy.get_secret_value()) if images.egress_proxy else None


def image_policy(images: cfg.Images) -> ImagePolicy:
    """The policy that an `images` block describes."""
    return ImagePolicy(
        mode=images.mode,
        urls=UrlRules(
            schemes=frozenset(images.schemes),
            ports=frozenset(images.ports),
            allow=images.hosts.allow,
            deny=images.hosts.deny,
            internal=images.hosts.internal,
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
        on_unreachable=images.on_unreachable,
    )


def build_providers(config: cfg.Config) -> dict[str, Provider]:
    """The providers of a config, with their secrets."""
    return {
        name: Provider(
            name=name,
            kind=_kind(provider),
            api_keys=provider.secrets,
            timeouts=Timeouts(
                connect=provider.timeouts.connect,
                first_byte=provider.timeouts.first_byte,
                idle=provider.timeouts.idle,
                total=provider.timeouts.total,
            ),
            transport=provider.transport,
        )
        for name, provider in config.providers.items()
    }
