"""OpenAI, and any server that speaks as it does: the request passes, but for what we decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any, Final

import msgspec

from proxy.domain.chat import ChatRequest
from proxy.domain.cuts import Pieces
from proxy.domain.routing import Target
from proxy.providers.kind import Kind, Variant
from proxy.providers.quirks import QUIRKS

#: Messages that go up as they came are encoded with the other fields up to here.
_SHORT: Final = 64 << 10

_USAGE: Final = msgspec.Raw(b'{"include_usage":true}')
_decode_options = msgspec.json.Decoder(dict[str, msgspec.Raw] | None).decode


def url(base_url: str, model: str) -> str:
    """Where a request goes; the model is named in its body."""
    return base_url + "/chat/completions"


def models_url(base_url: str) -> str:
    """Where models are listed: https://platform.openai.com/docs/api-reference/models/list"""
    return base_url + "/models"


@cache
def headers(api_key: str | None) -> Mapping[str, str]:
    """The provider's own headers; there may be no key for a local server."""
    return {"authorization": f"Bearer {api_key}"} if api_key else {}


def encode(
    request: ChatRequest,
    messages: Pieces | None,
    target: Target,
    output_param: str,
    *,
    stream_options: bool = True,
) -> Pieces:
    """The request's body as the target is to get it, with these messages (domain/sending.py);
    None: as they came.

    Replaced: the model's name, the output cap under the name that the model accepts, and
    `stream_options`, since usage is always asked for (they are left out where the server takes
    none). `detail` is the reference's own and was
    pushed down into the images. Every other field is the client's bytes.
    """
    fields: dict[str, Any] = {
        **request.fields,
        "model": target.model,
        output_param: request.cap,
    }
    for name in ("detail", "max_tokens", "max_completion_tokens"):
        if name in fields and name != output_param:
            del fields[name]
    if not stream_options:
        fields.pop("stream_options", None)
    elif request.stream:
        options = fields.get("stream_options")
        fields["stream_options"] = _with_usage(options) if options is not None else _USAGE
    if messages is None and len(memoryview(request.fields["messages"])) <= _SHORT:
        return [msgspec.json.encode(fields)]
    came = memoryview(fields.pop("messages"))
    return [msgspec.json.encode(fields)[:-1] + b',"messages":', *(messages or [came]), b"}"]


def _with_usage(options: msgspec.Raw) -> dict[str, Any]:
    return {**(_decode_options(options) or {}), "include_usage": True}


def _variant(of: Variant) -> Kind:
    row = QUIRKS[of.quirks]
    encoding = encode if row.stream_options else partial(encode, stream_options=False)
    return replace(KIND, encode=encoding, image_limits=row.image_limits)


KIND: Final = Kind(url=url, headers=headers, encode=encode, variant=_variant, models_url=models_url)
