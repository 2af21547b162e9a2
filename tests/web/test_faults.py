"""The fault matrix, a run or two of each cell; `make chaos` has twenty."""

from __future__ import annotations

import pytest

from tests.web.fault_check import matrix
from tests.web.fault_stand import open_faults
from tests.web.fault_steps import STAGES
from tests.web.faults import ANSWERED, CELLS, IMPOSSIBLE

each_transport = pytest.mark.parametrize("transport", ["direct", "aiohttp"])


def test_the_matrix_is_whole() -> None:
    """Each fault is at each stage, or cannot be, and it is told why."""
    cells = {(cell.stage, cell.fault) for cell in CELLS}
    assert len(cells) == len(CELLS)
    assert not cells & IMPOSSIBLE.keys()
    faults = {fault for _, fault in cells}
    assert len(faults) >= 12
    assert cells | IMPOSSIBLE.keys() == {(stage, fault) for stage in STAGES for fault in faults}


@each_transport
async def test_every_fault_at_every_stage(store_url: str, transport: str) -> None:
    """What the SDK sees is what the table says: no part is taken for a whole, each is settled
    once, and nothing is left behind."""
    async with open_faults(store_url, CELLS, transport=transport) as stand:
        wrong = await matrix(stand, store_url)
        assert not wrong, "\n".join(wrong)


@each_transport
@pytest.mark.parametrize("kind", ["anthropic", "azure"])
async def test_an_answer_of_another_kind(store_url: str, kind: str, transport: str) -> None:
    """So it is where the answer is translated."""
    async with open_faults(store_url, ANSWERED, kind=kind, transport=transport) as stand:
        wrong = await matrix(stand, store_url)
        assert not wrong, "\n".join(wrong)
