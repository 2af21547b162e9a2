"""The ledger's scripts against a small model, over whatever hypothesis thinks of."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.store.machine import LedgerMachine
from tests.store.scripts import connect

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"


@pytest.mark.timeout(3600 if DEEP else 60)
def test_ledger_state(store_url: str) -> None:
    """Whatever happens in whatever order, answers and contents are those of the model.

    Never more posted and reserved than a limit at an admission; rows equal tallies in every
    window; what is reserved is the sum of what is live; a replay charges nothing.
    """
    with connect(store_url) as client:
        machine = type("Machine", (LedgerMachine,), {"client": client})
        steps = 80 if DEEP else 40
        run_state_machine_as_test(machine, settings=settings(stateful_step_count=steps))
