"""Targets as people see and switch them: the configuration's, with what the store has off."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

from proxy.config import Config
from proxy.config import Target as ConfigTarget
from proxy.config.problems import nearest
from proxy.domain.limits import ANY_MODEL
from proxy.manage.checks import Unfit
from proxy.store.shapes import when
from proxy.store.switches import Pair, Switch, SwitchBoard, covered


@dataclass(frozen=True, slots=True)
class Switched:
    """What a change came to: the rows of the targets that it was about, whether anything was
    changed, and what it does to models.
    """

    rows: list[dict[str, Any]]
    changed: bool
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class TargetDesk:
    """A store's switches under a configuration.

    Every method may raise StoreUnavailable; Unfit where the configuration has no such target.
    """

    board: SwitchBoard
    config: Config

    async def rows(self) -> list[dict[str, Any]]:
        """Every target by model, as configured; then what is off and not in the configuration."""
        off, pairs = await self.board.off(), self._pairs()
        strays = [s for s in off if not any(map(s.covers, pairs))]
        return [*self._rows(off, pairs), *(_row(s.model, s.provider, None, [s]) for s in strays)]

    async def disable(
        self, provider: str, model: str | None, until: int | None, reason: str
    ) -> Switched:
        """Take a provider's target of a model out, or all of them; until a time, or for good."""
        name = self._checked(provider, model)
        switch = Switch(
            provider=provider,
            model=name,
            since=int(time.time()),
            until=until,
            by=self.board.actor,
            reason=reason,
        )
        await self.board.turn_off(switch)
        off = await self.board.off()
        pairs = [pair for pair in self._pairs() if switch.covers(pair)]
        return Switched(self._rows(off, pairs), True, self._stranded(off, pairs))

    async def enable(self, provider: str, model: str | None) -> Switched:
        """Let a provider's target of a model serve again, or all of them."""
        name = None if model in (None, ANY_MODEL) else self._name(model)
        gone = await self.board.turn_on(provider, name or ANY_MODEL)
        off = await self.board.off()
        if not gone:
            self._refuse_part(off, provider, self._checked(provider, name))
        pairs = [p for p in self._pairs() if p[1] == provider and name in (None, p[0])]
        return Switched(self._rows(off, pairs), bool(gone), self._still_off(off, provider, name))

    def _refuse_part(self, off: Iterable[Switch], provider: str, model: str) -> None:
        whole = next((s for s in off if (s.provider, s.model) == (provider, ANY_MODEL)), None)
        if whole is not None and model != ANY_MODEL:
            raise Unfit(
                f"all of the provider '{provider}' is off {_until(whole.until)}, and no part of it "
                f"can be on: visiongate target enable {provider}",
                "model",
            )

    def _still_off(self, off: Iterable[Switch], provider: str, model: str | None) -> list[str]:
        """A target's own switch is gone, but the whole provider is off, too."""
        return [
            f"all of the provider '{provider}' is still off {_until(switch.until)}: "
            f"visiongate target enable {provider}"
            for switch in off
            if switch.provider == provider and switch.model == ANY_MODEL and model is not None
        ]

    def _stranded(self, off: list[Switch], pairs: Iterable[Pair]) -> list[str]:
        """Of the models of these targets, those that have none left."""
        now, told = time.time(), []
        for model in dict.fromkeys(model for model, _ in pairs):
            own = {pair for pair in self._pairs() if pair[0] == model}
            if covered(off, own, now) == own:
                ends = [_last([s for s in off if s.covers(pair)]).until for pair in own]
                first = min((end for end in ends if end is not None), default=None)
                told.append(
                    f"the model '{model}' has no target left: its requests are answered 503 "
                    f"{_until(first)}"
                )
        return told

    def _rows(self, off: list[Switch], pairs: Iterable[Pair]) -> list[dict[str, Any]]:
        rows = []
        for model, provider in pairs:
            switches = [switch for switch in off if switch.covers((model, provider))]
            for target in self.config.models[model].targets:
                if target.provider == provider:
                    rows.append(_row(model, provider, target, switches))
        return rows

    def _pairs(self) -> list[Pair]:
        models = self.config.models.items()
        found = [(name, target.provider) for name, model in models for target in model.targets]
        return list(dict.fromkeys(found))

    def _name(self, model: str) -> str:
        """A model's own name, also of an alias."""
        named = (name for name, found in self.config.models.items() if model in found.aliases)
        return next(named, model)

    def _checked(self, provider: str, model: str | None) -> str:
        """The model's own name; "*" where none is named. Raises Unfit."""
        if provider not in self.config.providers:
            _refuse_provider(provider, self.config)
        if model is None:
            return ANY_MODEL
        name = self._name(model)
        if name not in self.config.models:
            near = nearest(model, self.config.models)
            raise Unfit(f"unknown model {model!r}{near}", "model")
        there = [target.provider for target in self.config.models[name].targets]
        if provider not in there:
            raise Unfit(
                f"the model '{name}' has no target at the provider '{provider}'; it has targets "
                f"at: {', '.join(dict.fromkeys(there))}",
                "model",
            )
        return name


def _refuse_provider(provider: str, config: Config) -> NoReturn:
    if provider in config.models:
        there = [target.provider for target in config.models[provider].targets]
        raise Unfit(
            f"'{provider}' is a model; its provider comes first: {there[0]} --model {provider}",
            "provider",
        )
    near = nearest(provider, config.providers)
    raise Unfit(f"unknown provider {provider!r}{near}", "provider")


def _row(
    model: str, provider: str, target: ConfigTarget | None, switches: list[Switch]
) -> dict[str, Any]:
    switch = _last(switches) if switches else None
    return {
        "model": model,
        "provider": provider,
        "upstream_model": target and target.model,
        "priority": target and target.priority,
        "weight": target and target.weight,
        "status": "disabled" if switch else "active",
        "since": when(switch.since) if switch else None,
        "until": when(switch.until) if switch else None,
        "by": switch.by if switch else None,
        "reason": (switch.reason or None) if switch else None,
    }


def _last(switches: list[Switch]) -> Switch:
    """The one that ends last."""
    return max(switches, key=lambda s: (s.until is None, s.until or 0))


def _until(seconds: int | None) -> str:
    return f"until {when(seconds)}" if seconds is not None else "until it is enabled"
