"""Models, the targets that serve them, and which one a request goes to."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from proxy.domain.errors import ModelNotFound
from proxy.domain.estimate import ImageCost
from proxy.domain.tokenizer import Tokenizer
from proxy.domain.usage import Price


@dataclass(frozen=True, slots=True)
class Target:
    """One place that serves a model: a provider, the model's name there, and where requests go."""

    provider: str
    model: str
    weight: float
    priority: int
    price: Price
    url: str = ""


@dataclass(frozen=True)
class Model:
    """A model as clients name it. `hidden_output`: part of its output never reaches them;
    `inline_images`: some provider of it is to fetch none itself; `kinds` are those
    of the providers whose limits on images are known.
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

    @cached_property
    def candidates(self) -> tuple[Target, ...]:
        """The targets of the first priority."""
        first = min(target.priority for target in self.targets)
        return tuple(target for target in self.targets if target.priority == first)

    @cached_property
    def ends(self) -> tuple[float, ...]:
        """Where each candidate's share ends, the shares laid one after the other."""
        return tuple(accumulate(target.weight for target in self.candidates))

    @cached_property
    def dearest(self) -> Price:
        """A price that no target exceeds: what a reservation is priced at."""
        prices = [target.price for target in self.targets]
        return Price(
            input=max(p.input for p in prices),
            output=max(p.output for p in prices),
            cached_input=max(p.cached_input for p in prices),
            cache_write=max(p.cache_write for p in prices),
        )


def find_model(models: Mapping[str, Model], name: str, allowed: frozenset[str]) -> Model:
    """The model, if it exists and the key may use it.

    `allowed` holds names or "*". Raises ModelNotFound, alike for both: what a key may not
    use, it need not know of.
    """
    model = models.get(name)
    if model is None or not ("*" in allowed or name in allowed):
        raise ModelNotFound(
            f"The model '{name[:64]}' does not exist or this key may not use it. "
            "GET /v1/models lists those it may.",
            param="model",
        )
    return model


def choose_target(model: Model, draw: float) -> Target:
    """By weight among the targets of the first priority; `draw` is uniform in [0, 1)."""
    candidates = model.candidates
    if len(candidates) == 1:
        return candidates[0]
    found = bisect_right(model.ends, draw * model.ends[-1])
    return candidates[min(found, len(candidates) - 1)]
