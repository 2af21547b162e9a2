"""One image by its text, under several policies at once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.domain.chat import ImagePart
from proxy.domain.errors import ImageRefused
from proxy.domain.parameters import PART_DETAILS
from proxy.domain.steps import finish
from proxy.images.guard import ImageGuard
from proxy.images.judge import judge, rules_of
from proxy.images.policy import ImagePolicy
from proxy.images.rewrite import RewriteRule
from proxy.images.sniff import ImageInfo
from proxy.images.visit import Fetched
from tests.domain.bodies import asks, parse
from tests.images.samples import make_policy
from tests.images.test_links import LINKS
from tests.images.test_urls import HOSTS

VERSIONED = RewriteRule.parse("https://cdn.example.com/", "https://cdn.example.com/v2/")
MIRRORED = RewriteRule.parse("https://cdn.example.com/v2/", "https://mirror.example.net/")
BASE = replace(make_policy(), rewrite=(VERSIONED,))


def sent(*policies: ImagePolicy) -> str:
    part = ImagePart(0, 0, "https://cdn.example.com/a.png", None)
    return finish(judge(part, rules_of(policies, frozenset(), 1, False))).url


def test_a_rule_of_two_plans_is_applied_once() -> None:
    """Plans that share the block's rules rewrite as one of them does; another rule goes on."""
    assert sent(BASE) == sent(BASE, BASE) == "https://cdn.example.com/v2/a.png"
    own = replace(BASE, rewrite=(MIRRORED, VERSIONED))
    assert sent(BASE, own) == "https://mirror.example.net/a.png"


def test_every_plan_judges_what_is_sent() -> None:
    """A URL that one plan's rules made is checked by the other plan too."""
    strict = replace(BASE, urls=replace(BASE.urls, deny=("mirror.example.net",)))
    with pytest.raises(ImageRefused, match="not one that this gateway allows"):
        sent(strict, replace(BASE, rewrite=(MIRRORED,)))


POLICIES = [
    make_policy(),
    make_policy(urls=HOSTS),
    make_policy(detail_default="low"),
    make_policy(detail_cap="high"),
    make_policy(rewrite=(RewriteRule.parse("https://pub.example/", "https://exact.example/"),)),
]


@given(
    st.lists(st.sampled_from(POLICIES), min_size=1, max_size=2),
    LINKS | st.just("https://pub.example/a.png"),
    st.sampled_from((None, *PART_DETAILS)),
)
def test_what_is_left_needs_no_judge(
    policies: list[ImagePolicy], url: str, detail: str | None
) -> None:
    """An image that is taken as it is at first sight is what the judge would have made of it."""
    part, rules = ImagePart(0, 0, url, detail), rules_of(tuple(policies), frozenset(), 1, False)
    if rules.leaves(part):
        assert finish(judge(part, rules)) == part


def test_usual_links_are_left() -> None:
    """Under a policy that changes nothing, a usual link needs no judge."""
    part = ImagePart(0, 0, "https://exact.example/a.png", None)
    left = [rules_of((policy,), frozenset(), 1, False).leaves(part) for policy in POLICIES]
    assert left == [True, True, False, False, False]


@pytest.mark.parametrize(("inline", "checks"), [(False, 1), (True, 2)])
def test_rules_that_bind_alike_are_checked_once(inline: bool, checks: int) -> None:
    """Policies whose URL rules differ in internal hosts alone are one where these bind none."""
    inner = make_policy(urls=replace(make_policy().urls, internal=("cdn.corp.example",)))
    rules = rules_of((make_policy(), inner), frozenset(), 1, inline)
    assert len(rules.links) == checks


class Heavy:
    """A host of images of a mebibyte; `fetched` counts them."""

    fetched = 0

    async def peek(self, url: str, rules: object, max_bytes: int, key: str) -> ImageInfo:
        raise AssertionError("nothing is to be looked at")

    async def fetch(self, url: str, rules: object, max_bytes: int, key: str) -> Fetched:
        self.fetched += 1
        return Fetched(bytes(1 << 20), ImageInfo("png", 8, 6, 1, animated=False))


async def test_inlined_images_have_a_bound_together() -> None:
    """Once a request's images fill a body, no more of them are fetched, and it is refused."""
    source = Heavy()
    guard = ImageGuard(lambda *_: None, source, 4 << 20)
    url = {"type": "image_url", "image_url": {"url": "https://pub.example/a"}}
    policies = [make_policy(mode="inline", max_count=20)]
    kept = await guard.admit(parse(asks(*[url] * 2)), policies, key="key", inline=True)
    assert [part.size for part in kept.images] == [1 << 20] * 2
    with pytest.raises(ImageRefused, match="come to more than 4 MiB"):
        await guard.admit(parse(asks(*[url] * 20)), policies, key="key", inline=True)
    assert source.fetched == 2 + 3
