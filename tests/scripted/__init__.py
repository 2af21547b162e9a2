"""An upstream that plays a script, on a bare TCP socket so that it can lie.

    async with ScriptedUpstream() as up:
        up.script(chat_stream(["The", " sunset"]))    # the first request
        up.script([Head(), Send(sse({})), Reset()])   # every one after it
        ...                                           # talk to up.url
        await up.wait_closed(1)                       # a client has closed a connection

A block that saw a malformed request, or a script that raised, fails when it is left.
"""

from tests.scripted.replies import chat_json, chat_stream, error_json, json_reply, sse
from tests.scripted.requests import MalformedRequest
from tests.scripted.server import ScriptedUpstream
from tests.scripted.steps import (
    Beneath,
    Close,
    Cut,
    End,
    Head,
    Pause,
    Raw,
    Recorded,
    Reset,
    Script,
    Send,
    Sleep,
    Split,
    Step,
)

__all__ = [
    "Beneath",
    "Close",
    "Cut",
    "End",
    "Head",
    "MalformedRequest",
    "Pause",
    "Raw",
    "Recorded",
    "Reset",
    "Script",
    "ScriptedUpstream",
    "Send",
    "Sleep",
    "Split",
    "Step",
    "chat_json",
    "chat_stream",
    "error_json",
    "json_reply",
    "sse",
]
