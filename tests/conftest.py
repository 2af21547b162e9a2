"""What every test may ask for: a real Valkey, a scripted upstream, a whole gateway."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import redis
from hypothesis import settings

from tests.gateway import Gateway, open_gateway
from tests.scripted import ScriptedUpstream
from tests.valkey import run_valkey

settings.register_profile("fast", derandomize=True, deadline=None)
settings.register_profile("deep", max_examples=2_000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

#: Set to "failed" where every tool is there, so that nothing has a reason to be skipped; else what
#: is to be said at the end.
SKIPPED = os.environ.get("VISIONGATE_SKIPPED", "")

OpenGateway = Callable[..., AbstractAsyncContextManager[Gateway]]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and SKIPPED == "failed":
        report.outcome = "failed"
        report.longrepr = f"skipped, where nothing may be: {report.longrepr}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if SKIPPED not in ("", "failed"):
        terminalreporter.write_line(SKIPPED)


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One real server for the session."""
    with run_valkey(tmp_path_factory.mktemp("valkey")) as url:
        yield url


@pytest.fixture
def store_url(valkey_url: str) -> str:
    """The server, empty."""
    with redis.Redis.from_url(valkey_url) as client:
        client.flushall()
        client.config_set("maxmemory", 0)
    return valkey_url


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as scripted:
        yield scripted


@pytest.fixture
async def gateway(
    store_url: str, upstream: ScriptedUpstream, tmp_path: Path
) -> AsyncIterator[Gateway]:
    """A gateway with the reference's models, before the scripted upstream."""
    async with open_gateway(store_url, upstream.url) as opened:
        yield opened
