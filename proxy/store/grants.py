"""Grants: more of a limit, once. What is left of one at its window's end goes on in the next.

Of a window that is over, the rows tell what was used beyond its limit; that much of its grants
is spent. Nothing is carried while a request of that window is in flight, for it may yet use
some: until then the new window has its plain amount.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

from msgspec.structs import replace

from proxy.access import Plan
from proxy.domain.identity import Grant, TeamRecord
from proxy.domain.limits import ANY_MODEL, Limit, merge
from proxy.domain.windows import stamp_of, window_end, window_of
from proxy.store.client import Store
from proxy.store.directory import Directory, DirectoryError
from proxy.store.figures import admitted
from proxy.store.layout import team_keys
from proxy.store.usage import FIGURES, Row, read_rows

#: Of a team at once: its record goes with each of its requests.
_MOST: Final = 100
#: Windows whose usage the rows, which are of days, can tell afterwards.
CARRIED: Final = ("day", "month")
_FIGURES: Final = {
    "requests": ("requests",),
    "tokens": ("input_tokens", "output_tokens"),
    "input tokens": ("input_tokens",),
    "output tokens": ("output_tokens",),
    "images": ("images",),
    "usd": ("nano_usd",),
}
_EPOCH: Final = date(1970, 1, 1)


async def give(
    store: Store, directory: Directory, team: str, limit: Limit, until: int | None = None
) -> TeamRecord:
    """Add an amount to a team's limit, once, until a time (seconds since 1970; None: the end of
    the window that is now, by the store's clock; a total has none).

    Raises StoreUnavailable, and DirectoryError where there is no such team.
    """
    now = int((await store.ask(None, "TIME"))[0])
    end = window_end(limit.window, now * 1000)
    ends = end // 1000 if until is None and end is not None else until
    grant = Grant(limit, stamp_of(limit.window, now * 1000), ends)

    def granted(record: TeamRecord) -> TeamRecord:
        kept = tuple(g for g in record.grants if g.live(now) or _counts(g, now))
        if len(kept) >= _MOST:
            raise DirectoryError(
                f"the team '{team}' has {_MOST} grants that go on; raise its limit instead",
                "amount",
            )
        return replace(record, grants=(*kept, grant))

    return await directory.change_team(team, granted)


def _counts(grant: Grant, now: float) -> bool:
    """Whether its window still runs: what it was used for there is not the limit's."""
    return grant.limit.window != "total" and _stamp(grant, now) == grant.stamp


async def carry_grants(
    store: Store, directory: Directory, team: TeamRecord, plans: Mapping[str, Plan], now: float
) -> bool:
    """Bring a team's grants into the windows of `now` (seconds), where one is of an earlier one.

    Called now and then by every gateway; whoever is first does it. Whether anything changed.
    Raises StoreUnavailable, and DirectoryError for a team that was deleted meanwhile.
    """
    # One of a later window is another gateway's, whose clock is ahead, or the store's.
    due = [grant for grant in team.grants if _stamp(grant, now) > grant.stamp]
    if not due or team.plan not in plans:
        return False
    carried = [grant for grant in due if grant.live(now) and grant.until is not None]
    rows: list[Row] = []
    if carried:
        first = min(_first_day(grant.limit.window, grant.stamp) for grant in carried)
        turn = max(_first_day(g.limit.window, _stamp(g, now)) for g in carried)
        if await _in_flight(store, team.name, turn):
            return False
        rows = await read_rows(store, team.name, first, turn)
    limits = {limit.slot: limit for limit in merge(plans[team.plan].limits, team.limits)}
    grants = _carry(team.grants, limits, rows, now)

    def change(record: TeamRecord) -> TeamRecord:
        return replace(record, grants=grants) if record == team else record

    return (await directory.change_team(team.name, change)).grants == grants


def _carry(
    grants: Sequence[Grant],
    limits: Mapping[tuple[str, str, str], Limit],
    rows: Sequence[Row],
    now: float,
) -> tuple[Grant, ...]:
    """The grants as they are at `now`: what was spent taken off, those that are over left out."""
    # Of several, the one that ends first is spent first, with what was used by then.
    left = sorted(grants, key=lambda grant: grant.until or 0)
    for slot in {grant.limit.slot for grant in grants}:
        stamps = [grant.stamp for grant in left if grant.limit.slot == slot]
        base = limits.get(slot)
        if base is None or slot[1] not in CARRIED:
            continue
        used = {_stamp_of_day(slot[1], row.day) for row in rows}
        now_stamp = stamp_of(slot[1], int(now * 1000))
        for stamp in sorted(s for s in used if min(stamps) <= s < now_stamp):
            paid = base.amount
            for index, grant in enumerate(left):
                if grant.limit.slot == slot and grant.stamp <= stamp:
                    over = _used(rows, slot, stamp, grant.until) - paid
                    spent = min(max(0, over), grant.limit.amount)
                    paid += spent
                    left[index] = _less(grant, spent)
    return tuple(moved for grant in left if (moved := _moved(grant, now)) is not None)


def _moved(grant: Grant, now: float) -> Grant | None:
    """A grant in the window of now; None where it is over."""
    stamp = _stamp(grant, now)
    if stamp <= grant.stamp:
        return grant
    goes_on = grant.until is not None and grant.live(now) and grant.limit.window in CARRIED
    return replace(grant, stamp=stamp) if goes_on and grant.limit.amount else None


def _less(grant: Grant, spent: int) -> Grant:
    limit = grant.limit
    return replace(grant, limit=Limit(limit.amount - spent, *limit.slot))


def _used(rows: Sequence[Row], slot: tuple[str, str, str], stamp: int, until: int | None) -> int:
    """What a window had used by the end of a grant, whose last day counts whole."""
    unit, window, model = slot
    places = [FIGURES.index(name) for name in _FIGURES[unit]]
    return sum(
        row.figures[place]
        for row in rows
        if model in (ANY_MODEL, row.model)
        and _stamp_of_day(window, row.day) == stamp
        and (until is None or _ms(row.day) < until * 1000)
        for place in places
    )


async def _in_flight(store: Store, team: str, turn: date) -> bool:
    """Whether a request that was admitted before this day is not settled yet."""
    place, before = team_keys(team)[2], _ms(turn)
    found: list[bytes] = await store.ask(place, "HVALS", place)
    return any(when is not None and when < before for when in map(admitted, found))


def _stamp(grant: Grant, now: float) -> int:
    return stamp_of(grant.limit.window, int(now * 1000))


def _stamp_of_day(window: str, day: date) -> int:
    return stamp_of(window, _ms(day))


def _first_day(window: str, stamp: int) -> date:
    return _EPOCH + timedelta(milliseconds=window_of(window, stamp)[0])


def _ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000
