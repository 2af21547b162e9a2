"""What a configuration says of images: its `images` block, and what plans tighten of it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from . import fields as f
from .block import Block

Detail = Literal["low", "high", "auto", "original"]
Format = Literal["png", "jpeg", "gif", "webp"]
Scheme = Literal["https", "http", "data"]
ImageMode = Literal["url", "inspect", "inline"]


class Hosts(Block):
    """`internal`: inner hosts or networks that may be fetched all the same."""

    allow: tuple[f.HostPattern, ...] = ("*",)
    deny: tuple[f.HostPattern, ...] = ()
    internal: tuple[f.InnerHost, ...] = ()


class ImageDetail(Block):
    """null: as the client asks."""

    default: Detail | None = None
    cap: Detail | None = None


class Rewrite(Block):
    """A URL that begins with `from` begins with `to` instead."""

    from_: f.UrlPrefix = Field(alias="from")
    to: f.UrlPrefix


class Images(Block):
    """What images may be, and how far each is looked at. Sizes are in bytes and pixels."""

    mode: ImageMode = "inspect"
    on_unreachable: Literal["assume_largest", "reject"] = "assume_largest"
    schemes: tuple[Scheme, ...] = ("https", "data")
    ports: tuple[f.Port, ...] = (443,)
    hosts: Hosts = Hosts()
    formats: tuple[Format, ...] = ("png", "jpeg", "gif", "webp")
    max_count: f.CountFromZero = 10
    max_bytes: f.Bytes = 20 * 2**20
    max_pixels: f.Count = 50_000_000
    max_side: f.Count = 8000
    max_frames: f.Count = 1
    detail: ImageDetail = ImageDetail()
    rewrite: tuple[Rewrite, ...] = ()
    egress_proxy: f.EgressProxy | None = None  # the gateway's own: no plan sets it
