"""Admitting a request's images: count, rewrite, check, look at or fetch, detail, in that order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, Final, Protocol

from msgspec.structs import replace

from proxy.domain.chat import ChatRequest, ImagePart
from proxy.domain.errors import ImageRefused
from proxy.domain.steps import Steps
from proxy.images.datauri import decoded_size, encode_base64
from proxy.images.errors import refuse
from proxy.images.kinds import limits_of
from proxy.images.policy import (
    MODES,
    ImageLimits,
    ImagePolicy,
    cap_detail,
    check_count,
    check_info,
    judge_data,
    narrowest,
)
from proxy.images.rewrite import RewriteRule, rewrite
from proxy.images.sniff import ImageInfo
from proxy.images.urls import UrlRules, check_url
from proxy.images.visit import Fetched
from proxy.turns import in_turns

#: Told of every image: verdict (allowed, refused), reason, and format and bytes where known.
ImageObserver = Callable[[str, str, str, int], None]

#: Why an image is unreachable that no policy lets a provider try for itself. An unknown name is
#: answered as one that leads inside: else it could be told which names there are inside.
_NEVER: Final = ("blocked", "redirect", "unknown_host")

#: Characters of an image from which on it waits until few others are in memory decoded.
_LARGE: Final = 1 << 20
_LARGE_AT_ONCE: Final = 4

_Work = Coroutine[Any, Any, ImagePart]


class Source(Protocol):
    """Where linked images come from; `key` is on whose behalf. Raises ImageRefused."""

    async def peek(
        self, url: str, rules: tuple[UrlRules, ...], max_bytes: int, key: str
    ) -> ImageInfo: ...

    async def fetch(
        self, url: str, rules: tuple[UrlRules, ...], max_bytes: int, key: str
    ) -> Fetched: ...


class _Room:
    """What the images of one request may still come to, as base64 in its body."""

    def __init__(self, most: int) -> None:
        self._most = self._left = most

    def take(self, size: int) -> None:
        """Make room for an image of so many bytes. Raises ImageRefused, also where none is left."""
        self._left -= -(-size // 3) * 4
        if self._left < 0 or (not size and not self._left):
            raise refuse(
                "too_large",
                "the images are sent inline, and all of them come to more than "
                f"{self._most / 2**20:.3g} MiB; send fewer of them, or smaller ones",
            )


class ImageGuard:
    """The image policy at work. What it lets through is what was checked.

    `most`: bytes that a request's images may come to where they are sent inline.
    """

    def __init__(self, observe: ImageObserver, source: Source, most: int) -> None:
        self._observe = observe
        self._most = most
        self._source = source
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)

    async def admit(
        self,
        request: ChatRequest,
        policies: Sequence[ImagePolicy],
        *,
        key: str,
        inline: bool,
        kinds: Collection[str] = (),
    ) -> ChatRequest:
        """The request with its images as they may be sent, on behalf of a key. `inline`: the
        provider is to fetch nothing; `kinds` of provider it may go to, each with limits of its own.

        Raises ImageRefused naming every part at fault; nothing is sent of a request with one
        bad image.
        """
        if not request.images:
            return request
        count = len(request.images)
        limits = narrowest([*policies, *(limits_of(kind, count) for kind in kinds)])
        try:
            check_count(count, limits)
        except ImageRefused as error:
            raise self._refused([("messages", error)]) from None
        mode = max((policy.mode for policy in policies), key=MODES.index)
        inline = inline or mode == "inline"
        # What costs a look at the text goes before what costs a way over the network.
        judged = await self._all(
            request.images, lambda part: self._judged(part, policies, limits, inline)
        )
        if inline:
            room = _Room(self._most)
            judged = await self._all(
                judged, lambda part: self._inlined(part, policies, limits, key, room)
            )
        elif mode == "inspect":
            judged = await self._all(
                judged, lambda part: self._inspected(part, policies, limits, key)
            )
        for part in judged:
            self._observe("allowed", "", part.format, part.size)
        return replace(request, images=tuple(judged))

    async def _all(
        self, parts: Sequence[ImagePart], work: Callable[[ImagePart], _Work]
    ) -> list[ImagePart]:
        done = await asyncio.gather(*map(work, parts), return_exceptions=True)
        faults = [
            (f"{part.path}.url", result)
            for part, result in zip(parts, done, strict=True)
            if isinstance(result, ImageRefused)
        ]
        if faults:
            raise self._refused(faults)
        found = []
        for result in done:
            if isinstance(result, BaseException):
                raise result
            found.append(result)
        return found

    async def _judged(
        self, part: ImagePart, policies: Sequence[ImagePolicy], limits: ImageLimits, inline: bool
    ) -> ImagePart:
        if len(part.data or b"") <= _LARGE:
            return await in_turns(judge(part, policies, limits, inline))
        async with self._large:
            return await in_turns(judge(part, policies, limits, inline))

    async def _inspected(
        self, part: ImagePart, policies: Sequence[ImagePolicy], limits: ImageLimits, key: str
    ) -> ImagePart:
        """A linked image by its first bytes. The provider may be shown another: its size is
        held against the policies, and not what is reserved.
        """
        if part.sized:
            return part
        try:
            info = await self._source.peek(part.url, _rules(policies), limits.max_bytes, key)
        except ImageRefused as error:
            if not may_pass(error, policies):
                raise
            return part
        check_info(info, limits)
        return replace(part, format=info.format)

    async def _inlined(
        self,
        part: ImagePart,
        policies: Sequence[ImagePolicy],
        limits: ImageLimits,
        key: str,
        room: _Room,
    ) -> ImagePart:
        """A linked image as the data: URI that is sent in its place."""
        room.take(part.size)
        if part.sized:
            return part
        image = await self._source.fetch(part.url, _rules(policies), limits.max_bytes, key)
        room.take(len(image.data))
        check_info(image.info, limits)
        return replace(
            part,
            url=f"data:image/{image.info.format};base64,",
            data=await in_turns(encode_base64(image.data)),
            width=image.info.width,
            height=image.info.height,
            format=image.info.format,
            size=len(image.data),
        )

    def _refused(self, faults: Sequence[tuple[str, ImageRefused]]) -> ImageRefused:
        """One answer to all the faults of a request; it is coded as the first."""
        for _, fault in faults:
            self._observe("refused", fault.reason, "", 0)
        first = faults[0][1]
        told = (f"Invalid image at '{path}': {fault.message}." for path, fault in faults)
        refusal = ImageRefused(first.reason, " ".join(told), param=faults[0][0], code=first.code)
        refusal.cause = first.cause
        return refusal


def judge(
    part: ImagePart, policies: Sequence[ImagePolicy], limits: ImageLimits, inline: bool
) -> Steps[ImagePart]:
    """One image by its text: rewritten, checked, its detail capped; sized where all of it is here.

    `limits` are those of the policies and of whom it is sent to. Internal hosts are for images
    that are fetched and sent inline. Raises ImageRefused.
    """
    url, data = _rewritten(part.url, policies), False
    for policy in policies:
        data = url[:5].lower() == "data:" and "data" in policy.urls.schemes
        if not data:
            url = str(check_url(url, policy.urls if inline else policy.urls.outer))
        part = replace(part, url=url, detail=cap_detail(part.detail, policy))
    if not data:
        return part
    text = part.data or b""
    info = yield from judge_data(part.url, text, limits)
    return replace(
        part,
        width=info.width,
        height=info.height,
        format=info.format,
        size=decoded_size(text),
    )


def _rewritten(url: str, policies: Sequence[ImagePolicy]) -> str:
    """By the rules of each policy in turn; those that two of them share are applied once."""
    seen: set[RewriteRule] = set()
    for policy in policies:
        url = rewrite(url, [rule for rule in policy.rewrite if rule not in seen])
        seen.update(policy.rewrite)
    return url


def may_pass(error: ImageRefused, policies: Sequence[ImagePolicy]) -> bool:
    """Whether an image that could not be looked at goes up all the same, at its largest price."""
    strict = any(policy.on_unreachable == "reject" for policy in policies)
    return error.reason == "unreachable" and error.cause not in _NEVER and not strict


def _rules(policies: Sequence[ImagePolicy]) -> tuple[UrlRules, ...]:
    return tuple(policy.urls for policy in policies)
