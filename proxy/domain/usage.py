"""What a request may cost, what it did cost, and how the second follows from the first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from enum import Enum
from operator import attrgetter
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

MILLION: Final = 1_000_000

#: More tokens than any request has: what claims more is not believed. Their cost, too, is exact
#: in the ledger's doubles.
MOST_TOKENS: Final = 2**31 - 1

# What may come on top of a worst case: a provider's own tools, where a plan allows them, add to
# the prompt; thinking may go beyond the cap, and an upstream may ignore it.
_BEYOND: Final = 4
_MORE_INPUT: Final = 1_000_000
_MORE_OUTPUT: Final = 100_000


@dataclass(frozen=True, slots=True)
class Price:
    """Nano-usd per million tokens, so that every price on a list is an integer."""

    input: int
    output: int
    cached_input: int
    cache_write: int
    dearest: int = field(init=False, repr=False, compare=False)  # of the three for an input

    def __post_init__(self) -> None:
        dearest = max(self.input, self.cached_input, self.cache_write)
        object.__setattr__(self, "dearest", dearest)

    @classmethod
    def from_usd(
        cls,
        input: Decimal | float,
        output: Decimal | float,
        cached_input: Decimal | float | None = None,
        cache_write: Decimal | float | None = None,
    ) -> Price:
        """From USD per million tokens; cached input costs as much as input unless given."""
        return cls(
            input=_nano(input),
            output=_nano(output),
            cached_input=_nano(input if cached_input is None else cached_input),
            cache_write=_nano(cache_write or input),
        )

    def cost(self, usage: Usage) -> int:
        """Nano-usd, rounded up once over the whole request."""
        total = usage.input * self.input + usage.output * self.output
        if usage.cached:
            total += usage.cached * (self.cached_input - self.input)
        if usage.cache_write:
            total += usage.cache_write * (self.cache_write - self.input)
        return -(-total // MILLION)

    def prompt(self, tokens: int) -> int:
        """Nano-usd of an input of which nothing was cached, and no output."""
        return -(-tokens * self.input // MILLION)

    def worst(self, input: int, output: int) -> int:
        """The most that these tokens can cost, in nano-usd."""
        return -(-(input * self.dearest + output * self.output) // MILLION)


FREE: Final = Price(0, 0, 0, 0)


def _nano(usd: Decimal | float) -> int:
    return int((Decimal(str(usd)) * 1_000_000_000).to_integral_value(ROUND_CEILING))


class Usage(Struct, frozen=True):
    """Tokens of one request; `cached`, `cache_write` and `image` are parts of `input`."""

    input: int
    output: int
    cached: int = 0
    cache_write: int = 0
    image: int | None = None


MOST: Final = Usage(MOST_TOKENS, MOST_TOKENS)


class Amounts(Struct, frozen=True):
    """What one request takes from the limits; `usd` is in nano-usd."""

    requests: int
    input: int
    output: int
    images: int
    usd: int

    def of(self, unit: str) -> int:
        return OF_UNIT[unit](self)


#: What a request takes of each unit.
OF_UNIT: Final[Mapping[str, Callable[[Amounts], int]]] = {
    "requests": attrgetter("requests"),
    "tokens": lambda a: a.input + a.output,
    "input tokens": attrgetter("input"),
    "output tokens": attrgetter("output"),
    "images": attrgetter("images"),
    "usd": attrgetter("usd"),
    "concurrent": lambda a: 1,
}


class Estimate(Struct, frozen=True):
    """The worst case of a request, as it is reserved.

    `text` is our own count of the prompt without its images; `image` the most that the
    images can cost; the output is that of all `choices`.
    """

    amounts: Amounts
    text: int
    image: int
    price: Price
    choices: int = 1

    @property
    def cap(self) -> int:
        """The output tokens of one choice."""
        return self.amounts.output // self.choices


class Charge(Struct, frozen=True):
    """What is settled: the amounts, and the parts of the input that the rows show."""

    amounts: Amounts
    cached: int
    image: int
    source: str


class Phase(Enum):
    """How far a request came."""

    NOT_CALLED = "not_called"  # the upstream was never asked
    REFUSED = "refused"  # the upstream answered with an error: tokens are refunded
    CALLED = "called"  # asked, nothing came back yet
    STREAMING = "streaming"  # some of the answer came
    COMPLETE = "complete"  # the provider's own end mark came


# To look up a member of an enum takes as long as a search.
NOT_CALLED: Final = Phase.NOT_CALLED
REFUSED: Final = Phase.REFUSED
CALLED: Final = Phase.CALLED
STREAMING: Final = Phase.STREAMING
COMPLETE: Final = Phase.COMPLETE


class Outcome(Struct, frozen=True):
    """What the meter knows. `delivered` is our own count of the output since `usage` was told:
    of all of it, where none was, or one without any output. `exact`: the count is no guess.
    """

    phase: Phase
    usage: Usage | None
    delivered: int
    hidden: bool = False  # the output has a part that we cannot count: take the reserve
    exact: bool = True


def charge(estimate: Estimate, outcome: Outcome) -> Charge:
    """The upstream's own figures where they came, and our count of what was delivered after."""
    reserved, phase = estimate.amounts, outcome.phase
    usage, later = outcome.usage, outcome.delivered
    if phase is NOT_CALLED or phase is REFUSED:
        requests = reserved.requests if phase is REFUSED else 0
        return Charge(Amounts(requests, 0, 0, 0, 0), 0, 0, "estimated")
    # A usage without output is believed only of an answer that is over, and has no text.
    told = usage is not None and (usage.output > 0 or not (later or phase is STREAMING))
    if usage is None:
        usage = Usage(reserved.input, 0, image=estimate.image)
    if later or outcome.hidden:
        room = max(0, reserved.output - usage.output)
        # The upstream was held to the cap: a guess above it is a wrong one, a count is not.
        later = later if outcome.exact else min(later, room)
        if outcome.hidden and not told:
            later = max(later, room)
        usage = replace(usage, output=usage.output + later)
    cost = estimate.price.cost(usage)
    amounts = Amounts(reserved.requests, usage.input, usage.output, reserved.images, cost)
    image = 0
    if reserved.images:
        # What is not text is image, where the upstream does not say; never more than the input.
        image = usage.input - estimate.text if usage.image is None else usage.image
        image = min(max(image, 0), usage.input)
    return Charge(amounts, usage.cached, image, "upstream" if told else "estimated")


def most_believed(worst: Estimate) -> Usage:
    """The most that a request of this worst case can have used.

    More than reserved is recorded as it is; more than this is a fault of the upstream's.
    """
    return Usage(
        _BEYOND * worst.amounts.input + _MORE_INPUT, _BEYOND * worst.amounts.output + _MORE_OUTPUT
    )


def read_usage(found: Any, most: Usage = MOST) -> Usage | None:
    """An OpenAI usage object, or None where it cannot be believed: no prompt is empty, and
    none of its figures is above `most`.

    Gemini and xAI leave reasoning out of `completion_tokens` but not out of `total_tokens`.
    """
    if not isinstance(found, dict):
        return None
    get = found.get
    input, output, total = get("prompt_tokens"), get("completion_tokens"), get("total_tokens")
    if not (type(input) is type(output) is int):  # True is no count
        return None
    if not (0 < input <= MOST_TOKENS and 0 <= output <= MOST_TOKENS):
        return None
    if type(total) is int and input + output < total <= MOST_TOKENS:
        output = total - input
    if input > most.input or output > most.output:
        return None
    details = get("prompt_tokens_details")
    if not isinstance(details, dict):
        return Usage(input, output)
    cached = min(_count(details, "cached_tokens") or 0, input)
    cache_write = min(_count(details, "cache_write_tokens") or 0, input - cached)
    return Usage(input, output, cached, cache_write, _count(details, "image_tokens"))


def _count(found: Mapping[str, Any], name: str) -> int | None:
    value = found.get(name)
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else None
