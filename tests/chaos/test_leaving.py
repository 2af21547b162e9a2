"""Clients of the official SDK that leave, at full size."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.leaving import leaving
from tests.chaos.stand import run_stand

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]


@pytest.mark.parametrize("transport", ["direct", "aiohttp"])
async def test_clients_that_leave(store_url: str, tmp_path: Path, transport: str) -> None:
    """100 in each of three ways, before the first byte and behind it: the upstream is left within
    100 ms.
    """
    provider = {"openai": {"transport": transport}}
    with run_stand(tmp_path / "fleet", store_url, 1, providers=provider) as stand:
        await leaving(stand, transport, count=100, within=0.1)
