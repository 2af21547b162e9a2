"""Models, the targets that serve them, and which one a request goes to."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Final, NamedTuple

from proxy.domain.errors import ModelNotFound, NoTarget
from proxy.domain.estimate import ImageCost
from proxy.domain.health import BreakerRules, Lesson, Standing
from proxy.domain.tokenizer import Tokenizer
from proxy.domain.usage import Price


@dataclass(frozen=True, slots=True)
class Target:
    """One place that serves a model: a provider, the model's name there, and where requests go.
    `concurrent`: how many requests of a worker it takes at a time; 0 is no cap.
    """

    provider: str
    model: str
    weight: float
    priority: int
    price: Price
    url: str = ""
    concurrent: int = 0


@dataclass(frozen=True)
class Model:
    """A model as clients name it. `hidden_output`: part of its output never reaches them;
    `inline_images`: some provider of it is to fetch none itself; `kinds` are those of the providers
    whose limits on images are known; `retries`: how many more attempts a request may have.
    """

    name: str
    targets: tuple[Target, ...]
    max_output: int
    output_param: str
    vision: bool
    hidden_output: bool
    tokenizer: Tokenizer
    image_cost: ImageCost
    inline_images: bool = False
    kinds: frozenset[str] = frozenset()
    retries: int = 0

    @cached_property
    def dearest(self) -> Price:
        """A price that no target exceeds: what a reservation is priced at."""
        prices = [target.price for target in self.targets]
        if prices.count(prices[0]) == len(prices):
            return prices[0]
        return Price(
            input=max(p.input for p in prices),
            output=max(p.output for p in prices),
            cached_input=max(p.cached_input for p in prices),
            cache_write=max(p.cache_write for p in prices),
        )


def find_model(models: Mapping[str, Model], name: str, allowed: frozenset[str]) -> Model:
    """The model of that name or alias, if it exists and the key may use it.

    `allowed` holds names, no aliases, or "*". Raises ModelNotFound, alike for both: what a key may
    not use, it need not know of.
    """
    model = models.get(name)
    if model is None or not ("*" in allowed or model.name in allowed):
        raise ModelNotFound(
            f"The model '{name[:64]}' does not exist or this key may not use it. "
            "GET /v1/models lists those it may.",
            param="model",
        )
    return model


class Tried(NamedTuple):
    """An attempt that has failed."""

    standing: Standing
    key: int
    lesson: Lesson


class Next(NamedTuple):
    """What to try next. `same`: it is what has just failed, which should be left in peace first."""

    standing: Standing
    key: int
    same: bool = False


class Roster:
    """How the targets of a model stand, by priority. `only`: the one, where there is one."""

    __slots__ = ("_model", "only", "standings")

    def __init__(self, model: str, standings: Iterable[Standing]) -> None:
        self._model = model
        self.standings = tuple(sorted(standings, key=lambda s: s.target.priority))
        self.only = self.standings[0] if len(self.standings) == 1 else None

    @property
    def by_provider(self) -> dict[str, list[Standing]]:
        """Those at each provider."""
        found: dict[str, list[Standing]] = {}
        for standing in self.standings:
            found.setdefault(standing.target.provider, []).append(standing)
        return found

    def choose(self, now: float, draw: float) -> Standing:
        """A target for a new request: by priority, then by weight; `draw` is uniform in [0, 1).

        Where each key of each target is aside, what they say of this request is theirs to say.
        Raises NoTarget.
        """
        able = [s for s in self.standings if s.plain or s.takes(now)]
        if not able:
            raise self._no_target(now)
        return _drawn([s for s in able if s.plain or s.at_hand(now) is not None] or able, draw)

    def another(self, tried: Sequence[Tried], now: float, draw: float) -> Next | None:
        """Where to go once these have failed, the last one just now: another target, then another
        key, then the same once more; None where nobody is left.
        """
        last = tried[-1]
        if not last.lesson.elsewhere:
            return None
        used = {s: [t for t in tried if t.standing is s] for s in self.standings}
        for wanted in (_is_new, _has_other_keys):
            keys = {
                s: key
                for s in self.standings
                if wanted(used[s])
                and s.takes(now)
                and (key := s.at_hand(now, draw, [t.key for t in used[s]])) is not None
            }
            if keys:
                found = _drawn(list(keys), draw)
                same = found is last.standing and not last.lesson.aside
                return Next(found, keys[found], same)
        if last.lesson.again and last.standing.takes(now):
            return Next(last.standing, last.key, same=True)
        return None

    def _no_target(self, now: float) -> NoTarget:
        """Why there is none, and for how long."""
        enabled = [s for s in self.standings if not s.disabled]
        if not enabled:
            return NoTarget(
                f"The model '{self._model}' is switched off for now. Ask your platform team.",
                headers={"x-should-retry": "false"},
            )
        wait = min(_FULL if s.full else s.breaker.until - now for s in enabled)
        why = "as busy as they may be" if any(s.full for s in enabled) else "failing"
        seconds = max(1, math.ceil(wait))
        return NoTarget(
            f"The upstreams of the model '{self._model}' are {why}. Try again in {seconds} s.",
            headers={"retry-after": str(seconds)},
        )


_FULL: Final = 1.0  # seconds until somebody may be through


def _is_new(tried: Sequence[Tried]) -> bool:
    return not tried


def _has_other_keys(tried: Sequence[Tried]) -> bool:
    """Whether a target that failed may do better with another key."""
    return bool(tried) and all(t.lesson.again or t.lesson.aside for t in tried)


def _drawn(standings: Sequence[Standing], draw: float) -> Standing:
    """One of the first priority, by weight; of equal weights the one with the least to do."""
    first = standings[0].target.priority
    equals = [s for s in standings if s.target.priority == first]
    if len(equals) == 1:
        return equals[0]
    ends = list(accumulate(s.target.weight for s in equals))
    found = equals[min(bisect_right(ends, draw * ends[-1]), len(equals) - 1)]
    for other in equals:
        if other.in_flight < found.in_flight and other.target.weight == found.target.weight:
            found = other
    return found


class Health:
    """How all targets stand, as this worker knows it. `disabled` can be set at any time."""

    def __init__(
        self,
        models: Iterable[Model],
        keys: Mapping[str, int],
        rules: Callable[[str], BreakerRules] = lambda provider: BreakerRules(),
    ) -> None:
        """`keys`: how many API keys each provider has; `rules`: its breakers', by its name."""
        self.rosters = {
            model.name: Roster(
                model.name,
                [Standing(t, keys[t.provider], rules(t.provider)) for t in model.targets],
            )
            for model in models
        }
        self._disabled: frozenset[tuple[str, str]] = frozenset()

    @property
    def disabled(self) -> frozenset[tuple[str, str]]:
        """Which targets get no requests: a model's name, and a provider's."""
        return self._disabled

    @disabled.setter
    def disabled(self, pairs: frozenset[tuple[str, str]]) -> None:
        self._disabled = pairs
        for model, roster in self.rosters.items():
            for standing in roster.standings:
                standing.disabled = (model, standing.target.provider) in pairs
                standing.look()
