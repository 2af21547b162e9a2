"""Other gateways, as peers. They are installed in a cache of the bench's own, when asked for."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex

import yaml

from bench.asking import SCENARIOS, Part, Scenario
from bench.gateways import Absent, Gateway, Place, by_model, free_port, serving, valkey

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "visiongate-bench"

PORTKEY = CACHE / "portkey/node_modules/@portkey-ai/gateway"

#: With later ones, that its own range allows, Portkey 1.15.2 answers every stream with a 500.
PORTKEY_NEEDS = {"@hono/node-server": "1.13.8"}

#: LiteLLM keeps keys in PostgreSQL; its limits, which are what costs, are in Redis all the same
#: where a function tells them.
LITELLM_KEYS = """
from litellm.proxy._types import UserAPIKeyAuth


async def check(request, api_key):
    return UserAPIKeyAuth(
        api_key=api_key, team_id="bench", rpm_limit=100_000_000, tpm_limit=100_000_000_000,
        max_parallel_requests=100_000, team_rpm_limit=100_000_000, team_tpm_limit=100_000_000_000,
    )
"""


def install() -> None:
    """What of the peers is not in the cache yet. Raises CalledProcessError."""
    venv, node = CACHE / "litellm", CACHE / "portkey"
    if not (venv / "bin/litellm").exists():
        _run(sys.executable, "-m", "venv", str(venv))
        _run(str(venv / "bin/python"), "-m", "pip", "install", "--quiet", "litellm[proxy]")
    if shutil.which("npm") and not PORTKEY.exists():
        node.mkdir(parents=True, exist_ok=True)
        (node / "package.json").write_text(json.dumps({"overrides": PORTKEY_NEEDS}))
        _run("npm", "install", "--silent", "--prefix", str(node), "@portkey-ai/gateway")


def _run(*words: str) -> None:
    sys.stderr.write(f"{' '.join(words)}\n")
    subprocess.run(words, check=True)


@contextlib.contextmanager
def litellm(place: Place) -> Iterator[Gateway]:
    """LiteLLM's proxy, one worker, requests and tokens limited for key and team in Redis."""
    binary = CACHE / "litellm/bin/litellm"
    if not binary.exists():
        raise Absent("LiteLLM is not installed: python -m bench.run --peers")
    port = free_port()
    package = next(CACHE.glob("litellm/lib/*/site-packages/litellm-*.dist-info"))
    version = package.stem.partition("-")[2]
    with valkey(place) as (store, url):
        (place.folder / "keys.py").write_text(LITELLM_KEYS)
        config = place.folder / "litellm.yaml"
        config.write_text(yaml.safe_dump(_litellm_config(place, url)))
        words = [str(binary), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
        words += ["--keepalive_timeout", "600"]  # a connection waits for all others to be warm
        env = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        with serving(words, port, place, **env) as pid:
            ask = by_model("sk-bench")
            yield Gateway("litellm", version, pid, port, ask, store, usage=False, exact=False)


def _litellm_config(place: Place, store: str) -> dict[str, object]:
    host, _, port = store.removeprefix("redis://").partition("/")[0].partition(":")
    cache = {"type": "redis", "host": host, "port": int(port), "supported_call_types": []}
    return {
        "model_list": [
            {
                "model_name": each.name,
                "litellm_params": {
                    "model": f"openai/{each.model}",
                    "api_base": place.address + each.prefix,
                    "api_key": "sk-bench",
                },
            }
            for each in SCENARIOS.values()
        ],
        "litellm_settings": {"cache": True, "cache_params": cache, "telemetry": False},
        "general_settings": {"custom_auth": "keys.check", "master_key": f"sk-{token_hex(32)}"},
    }


@contextlib.contextmanager
def portkey(place: Place) -> Iterator[Gateway]:
    """Portkey's open-source gateway; it has no keys and no limits of its own."""
    node = shutil.which("node")
    if node is None or not PORTKEY.exists():
        raise Absent("Portkey needs Node.js and: python -m bench.run --peers")
    port = free_port()

    def ask(scenario: Scenario) -> Part:
        headers = {
            "Authorization": "Bearer sk-bench",
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": place.address + scenario.prefix,
        }
        path = "/v1/chat/completions"
        return Part(path, scenario.model, 0, scenario.chunks, headers=headers)

    words = [node, str(PORTKEY / "build/start-server.js"), "--headless", f"--port={port}"]
    version = json.loads((PORTKEY / "package.json").read_text())["version"]
    with serving(words, port, place) as pid:
        yield Gateway("portkey", version, pid, port, ask, exact=False)


PEERS: dict[str, Callable[[Place], contextlib.AbstractContextManager[Gateway]]] = {
    "litellm": litellm,
    "portkey": portkey,
}
