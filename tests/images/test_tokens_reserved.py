"""What is reserved for images is never below what they are billed at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.domain.chat import ImagePart
from proxy.domain.estimate import estimate
from proxy.domain.routing import Model
from proxy.images.guard import ImageGuard
from proxy.images.policy import DETAILS, MODES, cap_detail
from proxy.images.sniff import ImageInfo
from proxy.images.tokens import FORMULAS, formula_for, image_tokens
from proxy.images.visit import Fetched
from proxy.rules import build_models
from tests.domain.bodies import asks, parse
from tests.gateway import make_config
from tests.images.samples import data_uri, load_cases, make_policy, write_png
from tests.images.test_tokens import STANDS_FOR

LINK = "https://pub.example/a.png"
#: One of the models of each formula, and one that is not known.
NAMES = [*{formula: name for name, formula in FORMULAS.items()}.values(), "llava"]
VECTORS = [
    (STANDS_FOR.get(v["model"], v["model"]), v["width"], v["height"], v["detail"])
    for v in load_cases("image_tokens.yaml")["vectors"]
    if v["confidence"] != "superseded"
]
#: Every size of the vectors is allowed, as is every detail.
POLICY = make_policy(max_side=10_000, max_pixels=10**8)


@cache
def models() -> Mapping[str, Model]:
    """A model for each of the names, all with one vocabulary, and one that has two targets."""
    base = {"targets": [{"provider": "openai", "model": "gpt-4o"}], "max_output": 100}
    names = {*NAMES, *(name for name, *_ in VECTORS)}
    several = [{"provider": "openai", "model": name} for name in ("gpt-4o", "gpt-4o-mini")]
    return build_models(
        make_config(
            "redis://localhost",
            "http://localhost",
            models={f"as-{name}": {**base, "image_tokens": name} for name in names}
            | {"as-several": {**base, "targets": several}},
        )
    )


@cache
def png_uri(width: int, height: int) -> str:
    return data_uri(write_png(width, height, colour=0, depth=1))


class Host:
    """Shows an image of one size, whatever is asked for."""

    def __init__(self, width: int, height: int) -> None:
        self.info = ImageInfo("png", width, height, 1, animated=False)

    async def peek(self, url: str, rules: object, max_bytes: int, key: str) -> ImageInfo:
        return self.info

    async def fetch(self, url: str, rules: object, max_bytes: int, key: str) -> Fetched:
        return Fetched(b"the image", self.info)


async def reserved(
    name: str, url: str, width: int, height: int, detail: str | None, mode: str
) -> int:
    """The image tokens of an estimate of a request with one image."""
    image = {"url": url} if detail is None else {"url": url, "detail": detail}
    request = parse(asks({"type": "image_url", "image_url": image}))
    guard = ImageGuard(lambda *_: None, Host(width, height), 1 << 25)
    policies = [replace(POLICY, mode=mode)]
    admitted = await guard.admit(request, policies, key="key", inline=False)
    model = models()[f"as-{name}"]
    worst = estimate(admitted, 7, model.image_cost, model.dearest)
    assert worst.amounts.input == worst.image + 7
    return worst.image


@pytest.mark.parametrize("mode", MODES)
async def test_every_vector_linked(mode: str) -> None:
    """A link is reserved at the price of what was fetched, or at no less than any image's."""
    for name, width, height, asked in VECTORS:
        for detail in (asked, *DETAILS, None):
            detail = detail if detail in DETAILS else None
            price = image_tokens(formula_for(name), width, height, detail)
            image = await reserved(name, LINK, width, height, detail, mode)
            assert image == price if mode == "inline" else image >= price, (name, width, height)


@pytest.mark.parametrize("mode", MODES)
async def test_every_vector_as_data(mode: str) -> None:
    """An image sent as data is reserved at its price, whatever the mode."""
    for name, width, height, asked in VECTORS:
        detail = asked if asked in DETAILS else None
        price = image_tokens(formula_for(name), width, height, detail)
        url = png_uri(width, height)
        assert await reserved(name, url, 1, 1, detail, mode) == price, (name, width, height)


SIDES = st.integers(1, 8000) | st.integers(1, 2**31) | st.sampled_from([1, 385, 769, 2049, 65_535])
ASKED = st.sampled_from([*DETAILS, None])


@given(SIDES, SIDES, ASKED, ASKED, ASKED)
def test_unknown_size(
    width: int, height: int, asked: str | None, default: str | None, cap: str | None
) -> None:
    """At every model, no image of whatever size costs more than one whose size is not known."""
    policy = replace(POLICY, detail_default=default, detail_cap=cap)
    part = ImagePart(0, 0, LINK, cap_detail(asked, policy))
    sized = msgspec.structs.replace(part, width=width, height=height)
    for name in NAMES:
        model = models()[f"as-{name}"]
        price = image_tokens(formula_for(name), width, height, part.detail)
        assert 0 < price == model.image_cost(sized) <= model.image_cost(part)
    dearest = image_tokens(formula_for("gpt-4o-mini"), width, height, part.detail)
    several = models()["as-several"]
    assert several.image_cost(sized) == dearest <= several.image_cost(part)
