"""Admitting a request's images: count, rewrite, check, detail, in that order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from proxy.domain.chat import ChatRequest, ImagePart, with_images
from proxy.domain.errors import ImageRefused
from proxy.images.policy import ImagePolicy, cap_detail, check_count, judge_data
from proxy.images.rewrite import rewrite
from proxy.images.urls import check_url

#: Told of every image: verdict (allowed, refused), reason, and format and bytes where known.
ImageObserver = Callable[[str, str, str, int], None]


class ImageGuard:
    """The image policy at work. What it lets through is what was checked."""

    def __init__(self, observe: ImageObserver) -> None:
        self._observe = observe

    async def admit(self, request: ChatRequest, policies: tuple[ImagePolicy, ...]) -> ChatRequest:
        """The request with its images as they may be sent.

        Raises ImageRefused naming the part; nothing is sent of a request with one bad image.
        """
        if not request.images:
            return request
        path = "messages"
        try:
            for policy in policies:
                check_count(len(request.images), policy)
            admitted = []
            for part in request.images:
                path = f"{part.path}.url"
                for policy in policies:
                    part = judge(part, policy)
                admitted.append(part)
        except ImageRefused as error:
            error.param = path
            error.message = f"Invalid image at '{path}': {error.message}."
            self._observe("refused", error.reason, "", 0)
            raise
        for part in admitted:
            self._observe("allowed", "", part.format, part.size)
        return with_images(request, tuple(admitted))


def judge(part: ImagePart, policy: ImagePolicy) -> ImagePart:
    """One image under one policy: rewritten, checked, its detail capped; sized where certain."""
    url = rewrite(part.url, policy.rewrite)
    detail = cap_detail(part.detail, policy)
    if url[:5].lower() == "data:":
        info = judge_data(url, policy)
        return replace(
            part,
            url=url,
            detail=detail,
            width=info.width,
            height=info.height,
            format=info.format,
            size=(len(url) - url.find(",") - 1) // 4 * 3,
        )
    return replace(part, url=str(check_url(url, policy.urls)), detail=detail)
