"""Hostile input until the time is up: `make fuzz`; a little of it in every run."""

from __future__ import annotations

import os
import secrets
import time

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.targets import TARGETS, Target

SECONDS = float(os.environ.get("SECONDS", "60"))
#: Of the first round; it is printed, so that a finding can be had again.
SEED = int(os.environ.get("SEED", secrets.randbelow(2**32)))
_ROUND = 500  # examples

each_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


@each_target
def test_a_little(target: Target) -> None:
    """No target has a finding among its first hundred inputs."""
    given(target.inputs)(target.check)()


@pytest.mark.fuzz
@pytest.mark.timeout(SECONDS + 300)
@each_target
def test_fuzz(target: Target, request: pytest.FixtureRequest) -> None:
    """No target has a finding in SECONDS."""
    name = request.node.callspec.id
    examples, rounds, findings = 0, 0, 1
    began = time.monotonic()

    def check(value: object) -> None:
        nonlocal examples
        examples += 1
        target.check(value)

    run = settings(
        max_examples=_ROUND,
        database=None,
        deadline=None,
        derandomize=False,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )(given(target.inputs)(check))
    try:
        while time.monotonic() - began < SECONDS:
            seed(SEED + rounds)(run)()
            rounds += 1
        findings = 0
    finally:
        seconds = time.monotonic() - began
        print(  # noqa: T201
            f"\n{name:9} {examples:8} examples {seconds:6.1f} s {findings} findings"
            f" (SEED={SEED + rounds})"
        )
