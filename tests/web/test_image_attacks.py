"""Attempts to reach an inner address through a running gateway."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.images.hostile import INNER, hostile, locations
from tests.images.origin import PUBLIC, moved, reply
from tests.scripted import Script
from tests.web.image_stand import OpenStand, batches

MODES = pytest.mark.parametrize("mode", ["inspect", "inline"])


@MODES
async def test_hostile_urls(open_stand: OpenStand, mode: str) -> None:
    """What some parser takes for an inner host is refused before anything is looked up."""
    urls = list(hostile())
    assert len(urls) > 175
    async with open_stand(mode=mode) as stand:
        for batch in batches(urls):
            answer = await stand.ask(*batch)
            assert answer.faulty == set(range(len(batch))), (batch, answer)
            assert list(answer.leaks()) == []
        assert stand.origin.looked_up == stand.origin.dialled == stand.upstream.requests == []


@MODES
async def test_hostile_redirects(open_stand: OpenStand, mode: str) -> None:
    """Whatever a host's Location says, nothing but the host is dialled for it."""
    targets = list(locations())
    async with open_stand(mode=mode) as stand:
        stand.origin.names |= {
            "inner.example": ["10.0.0.1"],
            "mixed.example": [PUBLIC, "::1"],
            "scoped.example": ["2606:4700::1%eth0"],
        }
        for n, target in enumerate(targets):
            status = (301, 302, 303, 307, 308)[n % 5]
            stand.origin.on(f"/{n}", moved(target.encode().decode("latin-1"), status))
        for batch in batches([f"http://pub.example/{n}" for n in range(len(targets))]):
            answer = await stand.ask(*batch)
            assert answer.faulty == set(range(len(batch))), (batch, answer)
            assert list(answer.leaks()) == []
        assert set(stand.origin.connected) == {(PUBLIC, 80)}
        assert not stand.upstream.requests


#: How a name, its first answers given, comes to an inner address; and whether its image is good.
REBINDING: list[tuple[Callable[[str], Any], Callable[[str], Script], bool]] = [
    (lambda inner: [PUBLIC], lambda path: reply(), True),
    (lambda inner: [[PUBLIC], [inner]], lambda path: reply(), True),
    (lambda inner: [[inner], [PUBLIC]], lambda path: reply(), False),
    (lambda inner: [PUBLIC, inner], lambda path: reply(), False),
    (lambda inner: [inner, "2606:4700::1111"], lambda path: reply(), False),
    (lambda inner: [*(f"93.184.0.{n}" for n in range(60)), inner], lambda path: reply(), False),
    (lambda inner: [[PUBLIC], [inner]], lambda path: moved(f"{path}/b"), False),
    (lambda inner: [[PUBLIC], [PUBLIC, inner]], lambda path: moved(f"https:{path}"), False),
    (lambda inner: [[PUBLIC], [PUBLIC], [inner]], lambda path: moved(f"{path}/"), False),
    (lambda inner: [[PUBLIC], [inner]], lambda path: reply(status=206), False),
]
TURNS = (*INNER, "::1", "::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe", "fe80::1%eth0", "fd00:ec2::254")


@MODES
async def test_rebinding(open_stand: OpenStand, mode: str) -> None:
    """Of 500 names that turn inner between two looks, or are half inner, none leads inside."""
    ways = [REBINDING[n % len(REBINDING)] for n in range(500)]
    async with open_stand(mode=mode) as stand:
        for n, (answers, script, _) in enumerate(ways):
            stand.origin.names[f"h{n}.example"] = answers(TURNS[n % len(TURNS)])
            stand.origin.on(f"/{n}", script(f"/{n}"))
            stand.origin.on(f"/{n}/", moved(f"/{n}/b"))
            stand.origin.on(f"/{n}/b", reply())
        for batch in batches([f"http://h{n}.example/{n}" for n in range(len(ways))]):
            answer = await stand.ask(*batch)
            numbers = [int(url.rpartition("/")[2]) for url in batch]
            assert answer.faulty == {at for at, n in enumerate(numbers) if not ways[n][2]}
            assert set(answer.line["cause"].split()) <= {"blocked", "redirect", "status"}
            assert list(answer.leaks()) == []
        assert {address for address, _ in stand.origin.connected} == {PUBLIC}
        assert (await stand.gate.metrics())["visiongate_image_fetch_seconds_count"] == len(ways)


@MODES
async def test_no_oracle(open_stand: OpenStand, mode: str) -> None:
    """A name that leads inside and one that does not exist are answered alike, in every mode."""
    async with open_stand(mode=mode, on_unreachable="assume_largest") as stand:
        stand.origin.names |= {"db.example": ["10.0.0.1"], "half.example": [PUBLIC, "10.0.0.1"]}
        names = ("db.example", "half.example", "none.example")
        answers = [await stand.ask(f"http://{name}/a") for name in names]
    assert [answer.line["cause"] for answer in answers] == ["blocked", "blocked", "unknown_host"]
    assert len({(answer.status, str(answer.error)) for answer in answers}) == 1
    assert answers[0].status == 400
