"""The demo upstream behind a real socket, without its pauses."""

from __future__ import annotations

import pytest
from pytest_aiohttp import AiohttpClient

from proxy.demo.upstream import make_demo_upstream
from tests.demo.asking import AUTH, Client


@pytest.fixture
async def client(aiohttp_client: AiohttpClient) -> Client:
    return await aiohttp_client(make_demo_upstream(pause=0), headers=AUTH)
