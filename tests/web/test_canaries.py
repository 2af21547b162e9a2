"""Distinctive secrets are put everywhere, everything that can go wrong does, and then they are
looked for in all that the gateway has written, shown or left behind.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from PIL import Image, PngImagePlugin

from tests.gateway import until
from tests.scripted import (
    Close,
    End,
    Head,
    Pause,
    Reset,
    ScriptedUpstream,
    Send,
    Step,
    chat_json,
    chat_stream,
    sse,
)
from tests.scripted.steps import Recorded
from tests.valkey import run_valkey
from tests.web.canaries import SECRETS, Stand, forms, standing
from tests.web.workers import make_key

USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}

#: A provider's own words on a request pass, to the client that made it, less the provider's key.
PASSES = [f"prompt in answer to echo {status}" for status in (400, 404, 422, 429)]


def picture() -> str:
    """A right image, with a secret in it."""
    info, out = PngImagePlugin.PngInfo(), io.BytesIO()
    info.add_text("Comment", SECRETS["image"])
    Image.new("RGB", (8, 8), "red").save(out, "PNG", pnginfo=info)
    return base64.b64encode(out.getvalue()).decode()


def chat(do: str, image: str = "", **more: Any) -> dict[str, Any]:
    text = {"type": "text", "text": f"{do}: {SECRETS['prompt']}"}
    parts = [text, {"type": "image_url", "image_url": {"url": image}}] if image else [text]
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": parts}], **more}


NO_IMAGE = base64.b64encode(SECRETS["image"].encode()).decode()
FUNCTION = {"name": SECRETS["tool"], "parameters": {"type": SECRETS["tool"]}}
REQUESTS: dict[str, Any] = {
    "stream": chat("well", stream=True),
    "whole": chat("well"),
    "image": chat("well", f"data:image/png;base64,{picture()}"),
    "tool": chat("well", tools=[{"type": "function", "function": FUNCTION}]),
    "no image": chat("well", f"data:image/png;base64,{NO_IMAGE}"),
    "no base64": chat("well", f"data:image/png;base64,{SECRETS['image']}!"),
    "inner": chat("well", f"https://127.0.0.1/{SECRETS['link']}?token={SECRETS['link']}"),
    "user": chat("well", f"https://u:{SECRETS['link']}@images.example/x.png"),
    "scheme": chat("well", f"{SECRETS['link']}://x"),
    "no link": chat("well", SECRETS["link"]),
    "traceback": {**chat("well"), "model": "boom"},
    "a field": chat("well", temperature=SECRETS["prompt"]),
    "a role": {"model": "gpt-4o", "messages": [{"role": SECRETS["prompt"], "content": "x"}]},
    "a parameter": chat("well", **{SECRETS["prompt"]: 1, "store": True}),
    "bad tool": chat("well", tools=[{"type": SECRETS["tool"], "function": FUNCTION}]),
    "too long": chat("well", max_tokens=10**12),
    **{f"echo {status}": chat(f"echo {status}") for status in (400, 401, 403, 404, 422, 429, 500)},
    **{do: chat(do, stream=True) for do in ("broken", "reset", "event", "garbage", "redirect")},
}
BODIES = {
    "no JSON": b'{"model": "' + SECRETS["prompt"].encode(),
    "no object": json.dumps(SECRETS["prompt"]).encode(),
    "twice": b'{"model":"gpt-4o","x":"%b","x":1}' % SECRETS["prompt"].encode(),
}


def answer(request: Recorded) -> list[Step]:
    """A hostile provider: what it refuses it explains with all that it was told."""
    told = f"{dict(request.headers)} {request.body.decode()}"
    do = json.loads(request.body)["messages"][0]["content"]
    do = (do if isinstance(do, str) else do[0]["text"]).partition(":")[0]
    error = {"error": {"message": told, "type": told, "param": told, "code": told}}
    if do.startswith("echo"):
        body = json.dumps(error).encode()
        return [Head(int(do[-3:]), (("Content-Type", "application/json"),)), Send(body), End()]
    stream = chat_stream(["one", "two"], USAGE)
    known: dict[str, Callable[[], list[Step]]] = {
        "broken": lambda: [*stream[:2], Close()],
        "reset": lambda: [Reset()],
        "event": lambda: [*stream[:2], Send(sse(error)), End()],
        "garbage": lambda: [Head(), Send(f"data: {{{told}\n\n".encode()), End()],
        "redirect": lambda: [Head(302, (("Location", f"http://127.0.0.1/?{told[:40]}"),)), End()],
        "hold": lambda: [*stream[:2], Pause(HELD), *stream[2:]],
    }
    if do in known:
        return known[do]()
    return stream if b'"stream":true' in request.body.replace(b" ", b"") else chat_json("x", USAGE)


HELD = asyncio.Event()


@pytest.mark.timeout(120)
async def test_no_secret_gets_out(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Of all that the gateway writes, shows or leaves behind, nothing holds a secret."""
    (tmp_path / "valkey").mkdir()
    upstream.script(answer)
    with run_valkey(tmp_path / "valkey") as bare, redis.Redis.from_url(bare) as admin:
        admin.config_set("requirepass", SECRETS["store"])
        store = bare.replace("unix://", f"unix://:{SECRETS['store']}@")
        async with standing(tmp_path, store, upstream) as stand:
            line = await stand.told("serving")
            url, key = line["public"], await make_key(store, pepper=SECRETS["pepper"])
            secrets = {**SECRETS, "client": key, "unknown": "vg_" + "x" * 36}
            for name, body in {**REQUESTS, **BODIES}.items():
                await stand.ask(name, url, key, body)
            await stand.ask("unknown key", url, secrets["unknown"], chat("well"))
            await stand.ask("a path", url, key, {}, f"/v1/x?x={SECRETS['link']}")
            for path in ("/metrics", "/readyz", "/healthz"):
                await stand.get(path, line["admin"] + path)
            await stand.get("wrong token", f"{line['admin']}/admin/v1/keys", secrets["unknown"])
            await stand.get("keys", f"{line['admin']}/admin/v1/keys", SECRETS["admin"])
            await refused_reloads(stand)
            await without_store(stand, upstream, url, key, store)
            await stand.get("/metrics at last", line["admin"] + "/metrics")
            stand.seen.processes(stand.process.pid)
            stand.process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(stand.process.wait(), 60)
            stand.seen.files(tmp_path / "var")
            stand.seen.texts["log"] = (tmp_path / "log").read_bytes()
            there(stand, upstream)
            assert stand.seen.leaks(secrets) == PASSES


async def refused_reloads(stand: Stand) -> None:
    """A configuration that is wrong beside a secret, and one whose store takes no such password."""
    good = stand.config.read_text()
    for old, new in (("${TOKEN}", f"{SECRETS['admin']} \\n:"), ("${STORE}", SECRETS["store"])):
        before = stand.told_of("reload_refused")
        stand.reload(old, new)
        await until(lambda known=before: stand.told_of("reload_refused") > known, 30)
        stand.config.write_text(good)


async def without_store(
    stand: Stand, upstream: ScriptedUpstream, url: str, key: str, store: str
) -> None:
    """A stream is under way as the store goes away; others are refused; it ends unsettled."""
    held = asyncio.create_task(stand.ask("hold", url, key, chat("hold", stream=True)))
    await until(lambda: any(b'"hold: ' in request.body for request in upstream.requests))
    with redis.Redis.from_url(store) as client:
        client.shutdown(nosave=True)
    await stand.ask("no store", url, key, chat("well"))
    HELD.set()
    await held


def there(stand: Stand, upstream: ScriptedUpstream) -> None:
    """That everything has happened, and that the search finds what is there."""
    sent = b"".join(request.body for request in upstream.requests)
    for name in ("prompt", "image"):  # the image in base64 alone
        assert any(form in sent for form in forms(SECRETS[name])), name
    assert SECRETS["provider"] in str(upstream.requests[0].headers)
    log = stand.seen.texts["log"]
    for word in (b'"level":"debug"', b"reload_refused", b'"status":500', b'"status":503', b"ci"):
        assert word in log, word
    assert any(where.startswith("file journal/") for where in stand.seen.texts)
    assert sum(where.startswith("cmdline") for where in stand.seen.texts) >= 3
    assert b"visiongate_requests_total" in stand.seen.texts["/metrics"]
    assert stand.seen.leaks({"marker": '"team":"vision"'})
