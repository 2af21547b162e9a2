"""What is asked and what is to come: scenarios, bodies, and the jobs of the load generator."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import msgspec

SIDE = 500  # pixels; with SIDE x SIDE random colours, the data URI has a megabyte

LINK = "https://example.com/image.jpg"


@dataclass(frozen=True)
class Scenario:
    """What the mock upstream answers: `chunks` words, `pace` ms apart; 0 chunks: no stream.

    Gateways that choose the upstream by the model know it by `name`; `model` is the upstream's.
    """

    name: str
    chunks: int
    pace: int
    model: str = "gpt-4o"

    @property
    def prefix(self) -> str:
        """The path of its base URL."""
        return f"/{self.chunks}/{self.pace}/v1"


SCENARIOS = {
    each.name: each
    for each in (
        Scenario("n1", 1, 0),
        Scenario("busy", 100, 20),
        Scenario("warm", 10, 20),
        Scenario("hold", 1, 8_000),
        Scenario("long", 300, 100),
        Scenario("whole", 0, 0),
        Scenario("older", 1, 0, model="gpt-4-vision-preview"),  # another vocabulary
    )
}


class Part(msgspec.Struct):
    """Streams of one kind: to `path`, for `model`, with an image that is a "link", "data" or ""."""

    path: str
    model: str
    streams: int
    chunks: int
    image: str = "link"
    stream: bool = True
    headers: dict[str, str] = {}


class Job(msgspec.Struct):
    """One run of the load generator: `warm` on its connections, then `run` when told to go.

    `usage`: the usage event is to come, too; `exact`: every byte counts, else the words do.
    Where there is `direct`, an upstream's port and what to send there, the streams alternate
    between there and `port`, one at a time.
    """

    port: int
    connections: int
    warm: Part
    run: Part
    usage: bool = True
    exact: bool = True
    direct: tuple[int, Part] | None = None
    patience: float = 120.0


class Result(msgspec.Struct):
    """What became of a job. Times are in seconds; `cpu` is the load generator's own."""

    streams: int
    wrong: int
    seconds: float
    cpu: float
    firsts: list[float]
    direct: list[float]
    begun: float = 0.0
    error: str = ""


def request(part: Part) -> bytes:
    """The bytes of one request."""
    content: list[dict[str, object]] = [{"type": "text", "text": "What is in this image?"}]
    if part.image:
        url = LINK if part.image == "link" else data_uri()
        content.append({"type": "image_url", "image_url": {"url": url}})
    asked = {
        "model": part.model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 1000,
    }
    if part.stream:
        asked["stream"] = True
    body = json.dumps(asked).encode()
    headers = {
        "Host": "127.0.0.1",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        **part.headers,
    }
    lines = [f"POST {part.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def data_uri() -> str:
    """A PNG of a megabyte in base64; it cannot be compressed, as photographs cannot."""
    return "data:image/png;base64," + base64.b64encode(png(SIDE)).decode()


def png(side: int) -> bytes:
    """A square of random colours (https://www.w3.org/TR/png-3/)."""
    colours = Random(1).randbytes(side * side * 3)
    rows = b"".join(b"\0" + colours[at : at + side * 3] for at in range(0, len(colours), side * 3))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows, 0)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(*part) for part in parts)


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so large a share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
