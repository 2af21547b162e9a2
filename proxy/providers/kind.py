"""What a kind of provider is to the pipeline, the relay and the config. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from proxy.domain.chat import ChatRequest
from proxy.domain.cuts import Pieces
from proxy.domain.routing import Target
from proxy.domain.sending import as_came, sent_messages
from proxy.domain.steps import Steps


class Translator(Protocol):
    """A provider's answer as OpenAI's, sans I/O; one for each call."""

    def feed(self, data: bytes) -> bytes:
        """A stream's bytes in; whole events of OpenAI chunks out, or b"" while there are none.

        The event with the usage (`choices: []`) always comes before `data: [DONE]`, for the meter
        withholds it from a client that did not ask; nothing comes after. The provider's error
        becomes an error event with all four keys, and no [DONE]. Raises EventTooLarge, and
        UpstreamFailed for what cannot be understood.
        """

    def whole(self, body: bytes) -> bytes:
        """A whole answer of status 200 in, an OpenAI chat.completion out; what is no answer
        becomes `{"error": {…}}`.
        """

    def so_far(self) -> tuple[Mapping[str, Any] | None, bool]:
        """Of a stream whose usage has not come out: what has been told of it, in OpenAI's form and
        without output, and whether there is output that is not shown, as thoughts are.
        """


class Encode(Protocol):
    def __call__(
        self, request: ChatRequest, messages: Pieces | None, target: Target, output_param: str, /
    ) -> Pieces:
        """The body as the target is to get it, with what `messages` made; `output_param` is the
        name of OpenAI's that the model takes its output cap by. Raises BadRequest.
        """


def openai_messages(request: ChatRequest) -> Steps[Pieces] | None:
    """The messages in OpenAI's form; None: as they came."""
    return None if as_came(request) else sent_messages(request)


class Variant(NamedTuple):
    """What a provider's config says of how its kind is spoken: a row of quirks.py, and a version of
    the API ("": none is named).
    """

    quirks: str = "none"
    api_version: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to speak to a provider.

    `url`: from a base URL without a slash at its end and the model's name there to where a request
    goes; asked once for each target. `headers`: the provider's own, by API key. `messages`: what
    of a request is encoded in steps, for it may be large; None where nothing has to be. `refusal`:
    from a status and a body to the status that it stands for and a body in OpenAI's envelope; None
    where it is in that already, or nearly. `translator`: of a request and the time (Unix) at which
    it is answered; None, of a kind or of a request, where the answer is OpenAI's and passes byte
    for byte. `variant`: the kind as one provider speaks it; None where all speak it alike.
    `models_url`: from a base URL to where its models are listed, at no cost; None where nowhere.
    `deployments`: that is what its targets name, and their names may be anything. `image_limits`:
    whose row of images/kinds.py is its own; "" where none is known.
    """

    url: Callable[[str, str], str]
    headers: Callable[[str | None], Mapping[str, str]]
    encode: Encode
    messages: Callable[[ChatRequest], Steps[Pieces] | None] = openai_messages
    refusal: Callable[[int, bytes], tuple[int, bytes]] | None = None
    translator: Callable[[ChatRequest, int], Translator | None] | None = None
    variant: Callable[[Variant], Kind] | None = None
    models_url: Callable[[str], str] | None = None
    deployments: bool = False
    image_limits: str = ""
