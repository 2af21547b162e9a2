"""OpenAI, and any server that speaks as it does: the request passes, but for what we decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from proxy.domain.chat import ChatRequest
from proxy.domain.cuts import Pieces
from proxy.domain.routing import Target

PATH = "/chat/completions"

_REPLACED: Final = frozenset(("messages", "detail", "max_tokens", "max_completion_tokens"))
_decode_options = msgspec.json.Decoder(dict[str, msgspec.Raw] | None).decode


def headers(api_key: str | None) -> dict[str, str]:
    """The provider's own headers; there may be no key for a local server."""
    return {"authorization": f"Bearer {api_key}"} if api_key else {}


def encode(request: ChatRequest, messages: Pieces, target: Target, output_param: str) -> Pieces:
    """The request's body as the target is to get it, with these messages (domain/sending.py).

    Replaced: the model's name, the output cap under the name that the model accepts, and
    `stream_options`, since usage is always asked for. `detail` is the reference's own and was
    pushed down into the images. Every other field is the client's bytes.
    """
    fields: dict[str, Any] = {
        name: raw for name, raw in request.fields.items() if name not in _REPLACED
    }
    fields["model"] = target.model
    fields[output_param] = request.cap
    if request.stream:
        fields["stream_options"] = {**_options(request.fields), "include_usage": True}
    return [msgspec.json.encode(fields)[:-1] + b',"messages":', *messages, b"}"]


def _options(fields: Mapping[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
    raw = fields.get("stream_options")
    return (_decode_options(raw) or {}) if raw is not None else {}
