"""`visiongate image`: what an image is, whether it may be sent, and what it costs."""

from __future__ import annotations

import asyncio
import base64
from argparse import Namespace
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from proxy.app import open_fetcher
from proxy.cli.faults import Failure, WrongUsage
from proxy.cli.output import say_good, show_json, show_table
from proxy.cli.session import read_config
from proxy.config import Config, Images
from proxy.config.problems import nearest
from proxy.domain.chat import ImagePart, split_data
from proxy.domain.errors import ImageRefused
from proxy.domain.limits import NANO
from proxy.domain.routing import Model
from proxy.domain.steps import finish
from proxy.domain.usage import Usage
from proxy.images.judge import judge, may_pass, rules_of
from proxy.images.policy import check_info
from proxy.images.sniff import format_of
from proxy.metrics import Metrics
from proxy.rules import build_models, egress_proxy, image_policy

_KEY: Final = "command"


def show(args: Namespace) -> None:
    """Judge one image by the images block, and price it for every model that takes images; one
    model's providers have a say too.
    """
    config = read_config(args)
    models = _models(config, args.model)
    model = models[0] if args.model and models else None
    try:
        part = asyncio.run(_judge(args.image, args.detail, config.images, model))
    except ImageRefused as error:
        raise Failure(f"refused: {error.message}") from None
    rows = [_row(part, model) for model in models]
    if args.json:
        show_json(rows)
        return
    say_good(f"allowed: {_described(part)}")
    columns = ("model", "detail", "format", "width", "height", "tokens", "usd")
    show_table(columns, rows, empty="no model of the configuration takes images")


def _models(config: Config, name: str | None) -> list[Model]:
    models = build_models(config)
    if name is not None and name not in models:
        raise WrongUsage(f"unknown model {name!r}{nearest(name, models)}")
    named = [models[known] for known in config.models]
    wanted = [models[name]] if name is not None else named
    return [model for model in wanted if model.vision]


async def _judge(image: str, detail: str | None, images: Images, model: Model | None) -> ImagePart:
    """The image as it may be sent, with its size where it is known. Raises ImageRefused."""
    kinds, inline = (model.kinds, model.inline_images) if model else (frozenset[str](), False)
    rules = rules_of((image_policy(images),), kinds, 1, inline)
    linked = "://" in image or image[:5].lower() == "data:"
    url = image if linked else await asyncio.to_thread(_read, Path(image))
    head, data = split_data(url)
    asked = ImagePart(0, 0, head, detail, data=data)
    part = finish(judge(asked, rules))
    if part.sized or rules.mode == "url":
        return part
    most, size = rules.limits.max_bytes, 0
    async with open_fetcher(Metrics().fetches, egress_proxy(images)) as fetcher:
        try:
            if rules.mode == "inline":
                fetched = await fetcher.fetch(part.url, rules.urls, most, _KEY)
                info, size = fetched.info, len(fetched.data)
            else:
                info = await fetcher.peek(part.url, rules.urls, most, _KEY)
        except ImageRefused as error:
            if rules.mode == "inline" or not may_pass(error, rules):
                raise
            return part
    check_info(info, rules.limits)
    return replace(part, width=info.width, height=info.height, format=info.format, size=size)


def _read(file: Path) -> str:
    """A file as the data: URI that would be sent."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise Failure(f"{file} cannot be read: {error.strerror}") from None
    kind = format_of(data[:64])
    if kind is None:
        raise Failure(f"refused: {file} is no PNG, JPEG, GIF or WebP image")
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _row(part: ImagePart, model: Model) -> dict[str, Any]:
    tokens = model.image_cost(part)
    cost = model.dearest.cost(Usage(tokens, 0))
    size: Sequence[int | None] = (part.width, part.height) if part.sized else (None, None)
    return {
        "model": model.name,
        "detail": part.detail or "auto",
        "tokens": tokens,
        "usd": Decimal(cost) / NANO,
        "format": part.format or None,
        "width": size[0],
        "height": size[1],
        "bytes": part.size or None,
    }


def _described(part: ImagePart) -> str:
    if not part.sized:
        return "its size is not known, so the largest price holds"
    size = f", {part.size:,} bytes" if part.size else ""
    return f"{part.format}, {part.width}x{part.height}{size}"
