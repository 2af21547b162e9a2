"""A gateway with two workers, mixed traffic, and a Prometheus that has seen it all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from proxy.domain.limits import parse_limit
from proxy.store.client import Store
from proxy.store.directory import Directory
from tests.fleet import ROOT
from tests.gateway import PEPPER
from tests.grafana import traffic
from tests.grafana.prometheus import Prometheus, run_prometheus, seen
from tests.scripted import ScriptedUpstream
from tests.valkey import free_ports, wait_for
from tests.web.workers import serving

#: Keys by what the traffic calls them: the team, its limits, and the key's name.
KEYS: Final[Mapping[str, tuple[str, tuple[str, ...], str]]] = {
    "ci": ("vision", ("50 usd/month", "1M tokens/day", "600 requests/minute"), "ci"),
    "app": ("vision", (), "app"),
    "other-team": ("search", ("5 usd/hour",), "ci"),
    "poor": ("tight", ("1000 tokens/day",), "only"),
}


@dataclass(frozen=True)
class Stand:
    """What is there to ask once the traffic is over: Prometheus, of which moment, since when there
    was anything, and the ledger's rows by team, key and model.
    """

    prometheus: Prometheus
    moment: float
    start: float
    rows: Sequence[Mapping[str, Any]]

    @property
    def seconds(self) -> int:
        """How long the whole of it took, in whole seconds and a little more."""
        return int(self.moment - self.start) + 5


@contextlib.contextmanager
def open_stand(folder: Path, store_url: str) -> Iterator[Stand]:
    with ExitStack() as stack:
        yield asyncio.run(_play(folder, store_url, stack))


async def _play(folder: Path, store_url: str, kept: ExitStack) -> Stand:
    keys = await _make_keys(store_url)
    async with AsyncExitStack() as stack:
        main, backup, origin = [
            await stack.enter_async_context(ScriptedUpstream()) for _ in range(3)
        ]
        for server, script in (
            (main, traffic.main),
            (backup, traffic.backup),
            (origin, traffic.origin),
        ):
            server.script(script)
        begun, (admin,) = time.time(), free_ports(1)
        prometheus = kept.enter_context(run_prometheus(admin))  # it takes 5 s to look for gateways
        changes = _changes(admin, backup.url, origin.port)
        gate = await stack.enter_async_context(
            serving(folder, store_url, main.url, "1s", 2, **changes)
        )
        sent = 0
        for turn in range(2):  # what rises only once has no rate
            link = f"http://127.0.0.1:{origin.port}/{turn}.png"
            sent += await traffic.drive(gate.url, keys, link)
            await asyncio.to_thread(_wait, prometheus, sent)
            if turn == 0:  # what a worker has counted stays when it dies
                os.kill(gate.pids[0], signal.SIGKILL)
                await gate.told("worker_died")
        moment = await asyncio.to_thread(_scraped, prometheus, time.time())
        return Stand(prometheus, moment, begun, await _rows(gate.config))


def _wait(prometheus: Prometheus, sent: int) -> None:
    """Until everything is counted, charged, scraped and recorded."""
    seen(prometheus, "sum(visiongate_requests_total)", sent)
    seen(prometheus, "sum(visiongate_tokens_reserved)", 0)
    seen(prometheus, "sum(team_model:visiongate_requests:sum)", sent)
    for name in ("tokens", "cost_usd"):
        recorded, raw = f"sum(team_model:visiongate_{name}:sum)", f"sum(visiongate_{name}_total)"
        seen(prometheus, f"abs({recorded} - {raw}) < bool 1e-9", 1)
    shown = 'sum(visiongate_limit_used{team="vision",unit="tokens"})'
    seen(prometheus, f'{shown} - sum(visiongate_tokens_total{{team="vision"}})', 0)


def _scraped(prometheus: Prometheus, after: float) -> float:
    """When the next scrape was: one that goes on while the gateway stops may fail."""
    last = "max(timestamp(visiongate_workers))"
    wait_for(lambda: prometheus.value(last) > after, 20)
    return prometheus.value(last)


def _changes(admin: int, backup: str, origin: int) -> dict[str, Any]:
    return {
        "admin": {"port": admin},
        "providers": {"backup": {"base_url": backup, "api_key": "sk-backup"}},
        "models": {
            "gpt-4o": {
                "targets": [{"provider": "openai"}, {"provider": "backup", "priority": 2}],
                "retries": 1,
            }
        },
        "images": {
            "mode": "inline",
            "schemes": ["http", "https", "data"],
            "ports": [443, origin],
            "hosts": {"internal": ["127.0.0.1"]},
        },
    }


async def _make_keys(store_url: str) -> dict[str, str]:
    """The secrets, without a gateway."""
    store = Store.open(store_url)
    try:
        directory = Directory(store, (PEPPER,))
        made = {}
        for called, (team, limits, name) in KEYS.items():
            if team not in await directory.team_names():
                await directory.create_team(team, limits=tuple(map(parse_limit, limits)))
            made[called] = (await directory.create_key(team, name)).secret
        return made
    finally:
        await store.close()


async def _rows(config: Path) -> list[dict[str, Any]]:
    words = ("usage", "--json", "--by", "team,key,model", "-c", str(config))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", *words), stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    told, _ = await process.communicate()
    assert process.returncode == 0
    rows: list[dict[str, Any]] = json.loads(told)
    return rows
