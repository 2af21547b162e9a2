"""Admitting a request's images: count, rewrite, check, look at or fetch, detail, in that order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, Final, Protocol

from msgspec.structs import replace

from proxy.domain.chat import ChatRequest, ImagePart
from proxy.domain.errors import ImageRefused
from proxy.domain.steps import Steps
from proxy.images.datauri import encode_base64
from proxy.images.errors import refuse
from proxy.images.judge import ImageRules, judge, may_pass, rules_of
from proxy.images.policy import ImagePolicy, check_count, check_info
from proxy.images.sniff import ImageInfo
from proxy.images.urls import UrlRules
from proxy.images.visit import Fetched
from proxy.turns import in_turns

#: Told of every image: verdict (allowed, refused), reason, and format and bytes where known.
ImageObserver = Callable[[str, str, str, int], None]

#: Images that are judged in one step; a long one has steps of its own.
_AT_ONCE: Final = 16

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
        images = request.images
        if not images:
            return request
        count = len(images)
        rules = rules_of(tuple(policies), frozenset(kinds), count, inline)
        try:
            check_count(count, rules.limits)
        except ImageRefused as error:
            raise self._refused([("messages", error)]) from None
        if count > _AT_ONCE or rules.mode != "url" or not all(map(rules.leaves, images)):
            images = await self._admitted(images, rules, key)
        for part in images:
            self._observe("allowed", "", part.format, part.size)
        return request if images == request.images else replace(request, images=images)

    async def _admitted(
        self, parts: Sequence[ImagePart], rules: ImageRules, key: str
    ) -> tuple[ImagePart, ...]:
        # What costs a look at the text goes before what costs a way over the network.
        room = _Room(self._most)
        judged = await self._judged(parts, rules, room)
        if rules.mode == "url" or all([part.sized for part in judged]):
            return judged
        if rules.mode == "inline":
            return await self._all(judged, lambda part: self._inlined(part, rules, key, room))
        return await self._all(judged, lambda part: self._inspected(part, rules, key))

    async def _judged(
        self, parts: Sequence[ImagePart], rules: ImageRules, room: _Room
    ) -> tuple[ImagePart, ...]:
        steps = self._judge(parts, rules, room)
        if any([part.data and len(part.data) > _LARGE for part in parts]):
            async with self._large:
                return await in_turns(steps)
        return await in_turns(steps)

    def _judge(
        self, parts: Sequence[ImagePart], rules: ImageRules, room: _Room
    ) -> Steps[tuple[ImagePart, ...]]:
        """All images by their text."""
        judged: list[ImagePart] = []
        faults = []
        for index, part in enumerate(parts):
            if index % _AT_ONCE == _AT_ONCE - 1:
                yield
            try:
                judged.append((yield from judge(part, rules)))
                if rules.mode == "inline" and judged[-1].sized:
                    room.take(judged[-1].size)
            except ImageRefused as error:
                # A traceback would lead back here: a cycle that holds the body.
                faults.append((f"{part.path}.url", error.with_traceback(None)))
        if faults:
            raise self._refused(faults)
        return tuple(judged)

    async def _all(
        self, parts: Sequence[ImagePart], work: Callable[[ImagePart], _Work]
    ) -> tuple[ImagePart, ...]:
        """The work on each, at the same time."""
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
        return tuple(found)

    async def _inspected(self, part: ImagePart, rules: ImageRules, key: str) -> ImagePart:
        """A linked image by its first bytes. The provider may be shown another: its size is
        held against the policies, and not what is reserved.
        """
        if part.sized:
            return part
        try:
            info = await self._source.peek(part.url, rules.urls, rules.limits.max_bytes, key)
        except ImageRefused as error:
            if not may_pass(error, rules):
                raise
            return part
        check_info(info, rules.limits)
        return replace(part, format=info.format)

    async def _inlined(
        self, part: ImagePart, rules: ImageRules, key: str, room: _Room
    ) -> ImagePart:
        """A linked image as the data: URI that is sent in its place."""
        if part.sized:
            return part
        room.take(0)
        image = await self._source.fetch(part.url, rules.urls, rules.limits.max_bytes, key)
        room.take(len(image.data))
        check_info(image.info, rules.limits)
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
