"""`visiongate demo`: the whole gateway on embedded parts, in the foreground."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shlex
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, TextIO

from aiohttp import web

from proxy import logs
from proxy.config import Config, load_config
from proxy.demo.picture import demo_picture
from proxy.demo.upstream import DEMO_KEY, make_demo_upstream
from proxy.domain.keys import PREFIX
from proxy.domain.limits import parse_limit
from proxy.serve import Listening, listening, run, until_stopped
from proxy.store.opening import StoreAccess, opened_store

PORT: Final = 8080
ADMIN_PORT: Final = 9090
TEAM: Final = "vision"
LIMITS: Final = ("60 requests/minute", "200k tokens/day", "1 usd/day")
_HOST: Final = "127.0.0.1"

_CONFIG: Final = """\
# Made by `visiongate demo`; gone when it stops.
server: {{host: {host}, port: {port}, drain: 5s}}
admin: {{port: {admin}}}
store: {{url: embedded, data: {data}}}
providers:
  {provider}:
    base_url: {base_url}
    api_key: {api_key}
    image_urls: forward  # the demo's own upstream fetches nothing
models:
  gpt-4o:
    targets: [{{provider: {provider}}}]
    price: {{input: 2.50, output: 10.00, cached_input: 1.25}}
  gpt-4o-mini:
    targets: [{{provider: {provider}}}]
    price: {{input: 0.15, output: 0.60, cached_input: 0.075}}
  gpt-4-vision-preview:
    targets: [{{provider: {provider}}}]
    price: {{input: 10.00, output: 30.00}}
"""

_BANNER: Final = """\
visiongate is running. Everything below is real, embedded, and gone when it stops (Ctrl-C).

  gateway    {base_url}
  metrics    {admin}/metrics
  upstream   {upstream}
  team       {team}, limited to {limits}
  key        {key}

Ask about a small picture. Paste this into another terminal:

{curl}

Or point an OpenAI SDK at it:

  export OPENAI_BASE_URL={base_url} OPENAI_API_KEY={key}

What it used:

  {command} -c {config} usage
  curl -s {base_url}/usage -H "Authorization: Bearer {key}"
"""

_CURL: Final = """\
curl -N {base_url}/chat/completions \\
  -H "Authorization: Bearer {key}" \\
  -H "Content-Type: application/json" \\
  -d '{{
    "model": "gpt-4o",
    "messages": [
      {{
        "role": "user",
        "content": [
          {{"type": "text", "text": "What is in this image?"}},
          {{"type": "image_url", "image_url": {{"url": "data:image/png;base64,{picture}"}}}}
        ]
      }}
    ],
    "stream": true,
    "max_tokens": 1000
  }}'"""


@dataclass(frozen=True, slots=True)
class Demo:
    """What is running, as `--json` prints it."""

    base_url: str
    admin: str
    key: str
    team: str
    limits: str
    upstream: str
    config: str
    curl: str


def run_demo(port: int | None, as_json: bool, out: TextIO | None = None) -> int:
    """Run until a signal comes. `port` None: 8080, or a free one where that is taken.

    Raises OSError where the given port is taken, EmbeddedStoreError.
    """
    logs.configure(sys.stderr.buffer)
    with tempfile.TemporaryDirectory(prefix="visiongate-") as folder:
        run(_demo(Path(folder), port, as_json, out or sys.stdout))
    return 0


async def _demo(folder: Path, port: int | None, as_json: bool, out: TextIO) -> None:
    async with _upstream(os.environ) as (provider, base_url, api_key):
        path = folder / "visiongate.yaml"
        path.write_text(
            _CONFIG.format(
                host=_HOST,
                port=_port(PORT) if port is None else port,
                # Who asks for any port is a script, and may not be alone: see _port.
                admin=0 if port == 0 else _port(ADMIN_PORT),
                data=folder / "store",
                provider=provider,
                base_url=base_url,
                api_key=api_key,
            )
        )
        config = load_config(path, os.environ)
        with opened_store(config) as access:
            await _serve(config, access, path, base_url, as_json, out)


async def _serve(
    config: Config, access: StoreAccess, path: Path, base_url: str, as_json: bool, out: TextIO
) -> None:
    async with listening(config, access.url, access.peppers) as gate:
        demo = await _prepare(gate, path, base_url)
        text = json.dumps(asdict(demo)) + "\n" if as_json else _banner(demo)
        await until_stopped(lambda: print(text, end="", file=out, flush=True))
    if not as_json:
        print("visiongate has stopped.", file=out)


async def _prepare(gate: Listening, path: Path, base_url: str) -> Demo:
    directory = gate.door.directory
    limits = tuple(parse_limit(text) for text in LIMITS)
    await directory.create_team(TEAM, limits=limits)
    made = await directory.create_key(TEAM, "demo")
    own = f"the demo's own, at {base_url}: it looks at the picture and says what it sees"
    return Demo(
        base_url=f"{gate.public}/v1",
        admin=gate.admin,
        key=made.secret,
        team=TEAM,
        limits=", ".join(LIMITS),
        upstream=own if base_url.startswith(f"http://{_HOST}") else base_url,
        config=str(path),
        curl=curl(f"{gate.public}/v1", made.secret),
    )


def curl(base_url: str, key: str) -> str:
    """The reference's example request with a picture in it, to be pasted into a shell."""
    picture = base64.b64encode(demo_picture()).decode()
    return _CURL.format(base_url=base_url, key=key, picture=picture)


def _banner(demo: Demo) -> str:
    called = sys.argv[0]  # the other terminal may be in another folder
    command = (
        shlex.quote(os.path.abspath(called)) if called.endswith("visiongate") else "visiongate"
    )
    return _BANNER.format(**asdict(demo), command=command)


@asynccontextmanager
async def _upstream(env: Mapping[str, str]) -> AsyncIterator[tuple[str, str, str]]:
    """The provider's name, base URL and key as the config names it: OpenAI where there is a
    key for it, else the demo's own."""
    key = env.get("OPENAI_API_KEY", "")
    # A key of the gateway's own stands there once the banner's export has been pasted.
    if key and not key.startswith(PREFIX):
        yield "openai", "https://api.openai.com/v1", "${OPENAI_API_KEY}"
        return
    runner = web.AppRunner(make_demo_upstream(), access_log=None, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, _HOST, 0)
        await site.start()
        yield "demo", f"http://{_HOST}:{runner.addresses[0][1]}/v1", DEMO_KEY
    finally:
        await asyncio.shield(runner.cleanup())


def _port(wanted: int) -> int:
    """The port if it is free, else 0 for any. Two that look at once may both find it free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, wanted))
        except OSError:
            return 0
    return wanted
