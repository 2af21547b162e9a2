"""Minutes of mixed traffic, and of a thousand open streams: `make soak`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.chaos.server import run_server
from tests.chaos.soak import soak
from tests.chaos.stand import run_stand
from tests.chaos.thousand import thousand

MINUTES = float(os.environ.get("MINUTES", "10"))

pytestmark = [pytest.mark.soak, pytest.mark.timeout(60 * MINUTES + 300)]


async def test_soak(tmp_path: Path) -> None:
    """Minutes of mixed traffic leave the workers as they were, and every figure agreeing."""
    with (
        run_server(tmp_path / "valkey") as server,
        run_stand(tmp_path / "fleet", server.url) as stand,
    ):
        await soak(stand, minutes=MINUTES)


def test_a_thousand_streams(tmp_path: Path) -> None:
    """For minutes, a thousand streams are open on one core: each is exact, and nothing grows."""
    thousand(tmp_path, minutes=MINUTES)
