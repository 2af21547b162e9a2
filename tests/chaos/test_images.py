"""What images cost others, at full size: a part of `make chaos`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.images import CASES, Case, Images, cost, run_images
from tests.chaos.server import run_server

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Images]:
    with (
        run_server(tmp_path / "valkey") as server,
        run_images(tmp_path / "fleet", server.url) as images,
    ):
        yield images


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_cost(images: Images, case: Case) -> None:
    """No image holds up other streams, or takes more memory than twice what is in flight."""
    await cost(images, case)
