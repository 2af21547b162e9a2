"""Many at once against a budget for a few."""

from __future__ import annotations

import asyncio
from collections import Counter

from tests.chaos.books import watched
from tests.chaos.provider import Order
from tests.chaos.stand import Stand, show, until
from tests.chaos.traffic import DATA_IMAGE, LINK_IMAGE, ask

IMAGES = {"text": "", "data": DATA_IMAGE, "link": LINK_IMAGE}
WORDS = 50


async def worst_case(stand: Stand, name: str, image: str) -> tuple[int, int]:
    """The tokens, input and all, that one such request reserves."""
    (key,) = await stand.keys(f"{name}-probe", 1)
    order = Order(f"{name}-probe", WORDS, hold=True)
    first = asyncio.Event()
    probe = asyncio.create_task(ask(stand.urls()[0], key.secret, order, image=image, first=first))
    await first.wait()
    assert not probe.done(), probe.result().body
    (held,) = stand.books.contents(key.team).reservations.values()
    await stand.provider.release()
    assert (await probe).ended == "complete"
    return held["a"][1], held["a"][1] + held["a"][2]


async def admission(stand: Stand, kind: str, *, streams: int = 200, room: int = 20) -> None:
    """Exactly `room` of `streams` at once are admitted, and use the budget to its last token."""
    name, image = f"room-{kind}", IMAGES[kind]
    input, worst = await worst_case(stand, name, image)
    (key,) = await stand.keys(name, 1, f"{room * worst} tokens/day")
    urls = stand.urls()
    tags = [f"{name}:{index}" for index in range(streams)]
    started = [asyncio.Event() for _ in tags]
    with watched(stand.books, name) as peak:
        tasks = [
            asyncio.create_task(
                ask(
                    urls[index % len(urls)],
                    key.secret,
                    Order(tag, WORDS, input=input, hold=True),
                    image=image,
                    first=started[index],
                )
            )
            for index, tag in enumerate(tags)
        ]
        await asyncio.gather(*(event.wait() for event in started))
        await until(lambda: len(stand.books.live(name)) == room, 5)
        await stand.provider.release()
        sent = await asyncio.gather(*tasks)
        await stand.free(name)
    served = await stand.provider.records(f"{name}:")
    charged = stand.books.charged(name)[key.id]
    ends = Counter((each.ended, each.status, each.code) for each in sent)
    over = charged.input + charged.output - room * worst
    show(
        f"{streams} {kind} streams at once on {len(urls)} workers, room for {room}",
        ends=dict(ends),
        upstream_saw=len(served),
        tokens_over=over,
        most_posted_and_reserved=f"{peak.tokens} of {room * worst}",
    )
    assert ends == {
        ("complete", 200, ""): room,
        ("refused", 429, "rate_limit_exceeded"): streams - room,
    }
    assert len(served) == room
    assert over == 0
    assert peak.tokens <= room * worst
    stand.books.agree(name)
