"""Admitting a request's images: count, rewrite, check, look at or fetch, detail, in that order."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from proxy.domain.chat import ChatRequest, ImagePart, with_images
from proxy.domain.errors import ImageRefused
from proxy.images.policy import MODES, ImagePolicy, cap_detail, check_count, check_info, judge_data
from proxy.images.rewrite import rewrite
from proxy.images.sniff import ImageInfo
from proxy.images.urls import UrlRules, check_url
from proxy.images.visit import Fetched

#: Told of every image: verdict (allowed, refused), reason, and format and bytes where known.
ImageObserver = Callable[[str, str, str, int], None]

#: Why an image is unreachable that no policy lets a provider try for itself.
_NEVER: Final = ("blocked", "redirect")

_Work = Coroutine[Any, Any, ImagePart]

#: A data: URI of more characters is judged in a thread.
_LONG: Final = 256 << 10


class Source(Protocol):
    """Where linked images come from; `key` is on whose behalf. Raises ImageRefused."""

    async def peek(
        self, url: str, rules: tuple[UrlRules, ...], max_bytes: int, key: str
    ) -> ImageInfo: ...

    async def fetch(
        self, url: str, rules: tuple[UrlRules, ...], max_bytes: int, key: str
    ) -> Fetched: ...


class ImageGuard:
    """The image policy at work. What it lets through is what was checked."""

    def __init__(self, observe: ImageObserver, source: Source) -> None:
        self._observe = observe
        self._source = source

    async def admit(
        self, request: ChatRequest, policies: Sequence[ImagePolicy], *, key: str, inline: bool
    ) -> ChatRequest:
        """The request with its images as they may be sent, on behalf of a key. `inline`: the
        provider is to fetch nothing.

        Raises ImageRefused naming every part at fault; nothing is sent of a request with one
        bad image.
        """
        if not request.images:
            return request
        try:
            for policy in policies:
                check_count(len(request.images), policy)
        except ImageRefused as error:
            raise self._refused([("messages", error)]) from None
        mode = max((policy.mode for policy in policies), key=MODES.index)
        inline = inline or mode == "inline"
        # What costs a look at the text goes before what costs a way over the network.
        judged = await self._all(request.images, lambda part: _judged(part, policies, inline))
        look = self._inlined if inline else self._inspected
        if inline or mode == "inspect":
            judged = await self._all(judged, lambda part: look(part, policies, key))
        for part in judged:
            self._observe("allowed", "", part.format, part.size)
        return with_images(request, tuple(judged))

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

    async def _inspected(
        self, part: ImagePart, policies: Sequence[ImagePolicy], key: str
    ) -> ImagePart:
        """A linked image by its first bytes. The provider may be shown another: its size is
        held against the policies, and not what is reserved.
        """
        if part.sized:
            return part
        try:
            info = await self._source.peek(part.url, *_reach(policies), key)
        except ImageRefused as error:
            if error.reason != "unreachable" or error.cause in _NEVER or _strict(policies):
                raise
            return part
        for policy in policies:
            check_info(info, policy)
        return replace(part, format=info.format)

    async def _inlined(
        self, part: ImagePart, policies: Sequence[ImagePolicy], key: str
    ) -> ImagePart:
        """A linked image as the data: URI that is sent in its place."""
        if part.sized:
            return part
        image = await self._source.fetch(part.url, *_reach(policies), key)
        for policy in policies:
            check_info(image.info, policy)
        text = base64.b64encode(image.data).decode()
        return replace(
            part,
            url=f"data:image/{image.info.format};base64,{text}",
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
        return ImageRefused(first.reason, " ".join(told), param=faults[0][0], code=first.code)


async def _judged(part: ImagePart, policies: Sequence[ImagePolicy], inline: bool) -> ImagePart:
    if len(part.url) > _LONG:
        return await asyncio.to_thread(judge, part, policies, inline)
    return judge(part, policies, inline)


def judge(part: ImagePart, policies: Sequence[ImagePolicy], inline: bool) -> ImagePart:
    """One image by its text: rewritten, checked, its detail capped; sized where all of it is here.

    Internal hosts are for images that are fetched and sent inline. Raises ImageRefused.
    """
    for policy in policies:
        rules = policy.urls if inline else replace(policy.urls, internal=())
        url = rewrite(part.url, policy.rewrite)
        detail = cap_detail(part.detail, policy)
        if url[:5].lower() == "data:":
            info = judge_data(url, policy)
            part = replace(
                part,
                url=url,
                detail=detail,
                width=info.width,
                height=info.height,
                format=info.format,
                size=(len(url) - url.find(",") - 1) // 4 * 3,
            )
        else:
            part = replace(part, url=str(check_url(url, rules)), detail=detail)
    return part


def _strict(policies: Sequence[ImagePolicy]) -> bool:
    return any(policy.on_unreachable == "reject" for policy in policies)


def _reach(policies: Sequence[ImagePolicy]) -> tuple[tuple[UrlRules, ...], int]:
    return tuple(policy.urls for policy in policies), min(policy.max_bytes for policy in policies)
