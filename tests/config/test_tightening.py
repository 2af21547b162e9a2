"""A plan's images block may only narrow the config's."""

from __future__ import annotations

import pytest

from .samples import SMALL, found, read

BASE = """
images:
  mode: inspect
  on_unreachable: reject
  schemes: [https]
  ports: [443]
  formats: [png]
  hosts: {allow: ["*.cdn.example", one.example, 8.8.0.0/16], deny: [a.cdn.example]}
  detail: {cap: high}
"""


def text(plan: str) -> str:
    return f"{SMALL}{BASE}plans: {{p: {{images: {{{plan}}}}}}}"


@pytest.mark.parametrize(
    ("plan", "field"),
    [
        ("mode: url", "mode"),
        ("on_unreachable: assume_largest", "on_unreachable"),
        ("schemes: [http, https]", "schemes"),
        ("ports: [443, 8443]", "ports"),
        ("hosts: {allow: ['*'], deny: [a.cdn.example]}", "hosts.allow"),
        ("hosts: {allow: ['*.example'], deny: [a.cdn.example]}", "hosts.allow"),
        ("hosts: {allow: [cdn.example], deny: [a.cdn.example]}", "hosts.allow"),
        ("hosts: {allow: [8.0.0.0/8], deny: [a.cdn.example]}", "hosts.allow"),
        ("hosts: {allow: ['2000::/3'], deny: [a.cdn.example]}", "hosts.allow"),
        ("hosts: {internal: [assets.corp]}", "hosts.internal"),
        ("hosts: {deny: [b.cdn.example]}", "hosts.deny"),
        ("formats: [png, gif]", "formats"),
        ("max_count: 11", "max_count"),
        ("max_bytes: 21MiB", "max_bytes"),
        ("max_pixels: 51M", "max_pixels"),
        ("max_side: 8001", "max_side"),
        ("max_frames: 2", "max_frames"),
        ("detail: {cap: original}", "detail.cap"),
    ],
)
def test_loosening(plan: str, field: str) -> None:
    """A plan that lets more through than the block above it is an error that names the field."""
    problems = found(text(plan))
    assert problems.keys() == {f"plans.p.images.{field}"}
    assert problems[f"plans.p.images.{field}"].endswith("a plan may only tighten it")


@pytest.mark.parametrize(
    "plan",
    [
        "",
        "mode: inline",
        "max_side: 100, formats: [png], detail: {cap: low}",
        "hosts: {deny: [a.cdn.example, b.cdn.example]}",
        "hosts: {allow: [x.cdn.example, '*.y.cdn.example', 8.8.4.0/24, 8.8.8.8]}",
    ],
)
def test_narrowing(plan: str) -> None:
    """Less of anything, names under an allowed suffix and parts of an allowed network will do."""
    assert read(text(plan)).plans.keys() == {"default", "p"}
