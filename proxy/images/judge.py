"""Images by their text: what several policies and providers allow together. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from msgspec.structs import replace

from proxy.domain.chat import ImagePart
from proxy.domain.errors import ImageRefused
from proxy.domain.steps import Steps
from proxy.images.datauri import decoded_size
from proxy.images.kinds import limits_of
from proxy.images.policy import (
    MODES,
    ImageLimits,
    ImagePolicy,
    cap_detail,
    judge_data,
    narrowest,
)
from proxy.images.rewrite import RewriteRule, rewrite
from proxy.images.urls import LinkCheck, UrlRules

#: Why an image is unreachable that no policy lets a provider try for itself. An unknown name is
#: answered as one that leads inside: else it could be told which names there are inside.
_NEVER: Final = ("blocked", "redirect", "unknown_host")


@dataclass(frozen=True, slots=True)
class ImageRules:
    """Policies that all bind, and the limits of whom images are sent to, ready for many images.

    `mode` is the strictest; `links` are the checks of the policies, `rewrites` the rules of each
    but for those of the ones before. `changing`: some policy changes links or details. `strict`:
    what cannot be looked at is refused.
    """

    policies: tuple[ImagePolicy, ...]
    limits: ImageLimits
    mode: str
    urls: tuple[UrlRules, ...]
    links: tuple[LinkCheck, ...]
    rewrites: tuple[tuple[RewriteRule, ...], ...]
    changing: bool
    strict: bool

    def leaves(self, part: ImagePart) -> bool:
        """Whether an image is a usual link, of which `judge` would leave all as it is."""
        return not self.changing and all([link.is_usual(part.url) for link in self.links])


@lru_cache(maxsize=1024)
def rules_of(
    policies: tuple[ImagePolicy, ...], kinds: frozenset[str], count: int, inline: bool
) -> ImageRules:
    """What binds each of `count` images that may go to these kinds of provider. `inline`: none is
    to be fetched by a provider. Internal hosts are for images that are sent inline alone.
    """
    mode = "inline" if inline else max((policy.mode for policy in policies), key=MODES.index)
    urls = tuple(policy.urls for policy in policies)
    rewrites = _rewrites(policies)
    return ImageRules(
        policies=policies,
        limits=narrowest([*policies, *(limits_of(kind, count) for kind in kinds)]),
        mode=mode,
        urls=urls,
        links=tuple(
            map(LinkCheck, dict.fromkeys(u if mode == "inline" else u.outer for u in urls))
        ),
        rewrites=rewrites,
        changing=bool(rewrites) or any(p.detail_default or p.detail_cap for p in policies),
        strict=any(policy.on_unreachable == "reject" for policy in policies),
    )


def judge(part: ImagePart, rules: ImageRules) -> Steps[ImagePart]:
    """One image by its text: rewritten, checked, its detail capped; sized where all of it is here.

    Raises ImageRefused.
    """
    url, detail = part.url, part.detail
    for rewriting in rules.rewrites:
        url = rewrite(url, rewriting)
    data = url[:5].lower() == "data:"
    for link in rules.links:
        if not (data and link.takes_data):
            url = link.check(url)
    for policy in rules.policies:
        detail = cap_detail(detail, policy)
    if data:
        text = part.data or b""
        info = yield from judge_data(part.url, text, rules.limits)
        return replace(
            part,
            url=url,
            detail=detail,
            width=info.width,
            height=info.height,
            format=info.format,
            size=decoded_size(text),
        )
    if url == part.url and detail == part.detail:
        return part
    return replace(part, url=url, detail=detail)


def may_pass(error: ImageRefused, rules: ImageRules) -> bool:
    """Whether an image that could not be looked at goes up all the same, at its largest price."""
    return error.reason == "unreachable" and error.cause not in _NEVER and not rules.strict


def _rewrites(policies: tuple[ImagePolicy, ...]) -> tuple[tuple[RewriteRule, ...], ...]:
    """The rules of each policy in turn; those that two of them share are applied once."""
    seen: set[RewriteRule] = set()
    found = []
    for policy in policies:
        found.append(tuple(rule for rule in policy.rewrite if rule not in seen))
        seen.update(policy.rewrite)
    return tuple(own for own in found if own)
