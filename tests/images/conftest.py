"""What tests of fetching may ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.images.origin import Origin


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    """Hosts on loopback that answer as they are told."""
    async with Origin() as opened:
        yield opened
