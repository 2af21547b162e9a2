"""The ledger's scripts beside their model: every answer and all that is kept must agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from proxy.domain.windows import window_end
from tests.store.model import Model, of
from tests.store.scripts import (
    DAY,
    HOUR,
    LEASE,
    MINUTE,
    SECOND,
    SPARE,
    Bound,
    Five,
    Scripts,
    at,
    stamps,
)

START = at("2028-02-29T23:59:56")  # a leap day: hour, day and month turn soon
TEAMS = ("vision", "search")
DEAR = 123_456_789_012_345  # nano-usd; longer than Lua prints of its own accord

providers = st.sampled_from(("p1", "p2"))
teams = st.sampled_from(("vision", "vision", "search"))
counts = st.integers(0, 120)
amounts = st.tuples(
    st.just(1), counts, counts, st.integers(0, 2), st.sampled_from((0, 7, 1_000_000_007, DEAR))
)
used = st.one_of(amounts, st.tuples(*[st.just(0)] * 5), amounts.map(lambda a: (0, *a[1:])))
picks = st.integers(0, 13)
requests = st.fixed_dictionaries(
    {
        "key": st.sampled_from(("k1", "k2")),
        "model": st.sampled_from(("m1", "m2")),
        "provider": providers,
        "asked": amounts,
        "force": st.sampled_from((False, False, False, True)),
        "usd_in": st.sampled_from((0, 3)),
    }
)
#: By how much the clock goes back: by less than an hour it is not believed.
BACK = (-3 * SECOND, -2 * HOUR)
steps = st.sampled_from(
    (1, 7 * SECOND, LEASE // 3, SPARE, SPARE, LEASE, *BACK, *BACK, 2 * HOUR, MINUTE, 8 * DAY)
)
turns = st.tuples(st.sampled_from(("hour", "day", "month")), st.sampled_from((-5 * SECOND, -1, 0)))

#: Unit, window, whose, of which model; and the amounts that it may have.
LIMITS = (
    ("requests", "minute", "team", "*", (0, 2, 4)),
    ("tokens", "minute", "team", "*", (90, 300, 600)),
    ("usd", "minute", "key:k1", "*", (DEAR, 3 * DEAR)),
    ("input tokens", "minute", "team", "m1", (60, 200)),
    ("tokens", "hour", "team", "m1", (100, 400)),
    ("input tokens", "hour", "team", "*", (120, 300)),
    ("requests", "day", "key:k1", "*", (1, 3, 6)),
    ("images", "day", "team", "*", (1, 2, 4)),
    ("usd", "month", "team", "*", (DEAR, 2 * DEAR + 7)),
    ("output tokens", "month", "key:k2", "m2", (100, 300)),
    ("tokens", "total", "key:k2", "*", (200, 800)),
    ("requests", "total", "team", "m2", (2, 5)),
    ("concurrent", "total", "team", "*", (0, 2, 4)),
    ("concurrent", "total", "key:k1", "m1", (1, 2)),
)
MINUTES = [limit for limit in LIMITS if limit[1] == "minute"]
MANY: Five = (5, 0, 0, 0, 0)

#: Which, which of its amounts, a grant, and how many windows ago that was given.
limits = st.tuples(
    st.sampled_from(LIMITS),
    picks,
    st.sampled_from((0, 5)),
    st.sampled_from((0, 1)),
)


def takes(asked: Five, limit: Bound) -> bool:
    return limit.unit == "concurrent" or of(asked, limit.unit) > 0


class LedgerMachine(RuleBasedStateMachine):
    """Several teams, keys and models, on the server of `client`."""

    client: Any
    edits: Sequence[tuple[str, str]] = ()

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.now = START
        self.made = 0
        self.scripts = {
            team: Scripts(self.client, team, self.edits, watched=False) for team in TEAMS
        }
        self.models = {team: Model() for team in TEAMS}
        self.limits: dict[str, dict[Any, Bound]] = {team: {} for team in TEAMS}
        self.known: list[tuple[str, str, dict[str, Any]]] = []

    @initialize(asked=st.lists(requests, max_size=3))
    def begin(self, asked: list[dict[str, Any]]) -> None:
        for limit in LIMITS:
            for team in TEAMS:
                self.set_limit(team, (limit, -1, 0, 0))
        for request in asked:
            self.reserve(TEAMS[0], request)

    def one(self, pick: int) -> tuple[str, str, dict[str, Any]]:
        """Something that was reserved: what is still held, and a few that may not be."""
        held = [known for known in self.known if known[1] in self.models[known[0]].held]
        found = held + self.known[-3:]
        return found[pick % len(found)]

    def both(self, team: str, call: str, *words: Any, **named: Any) -> Any:
        """Ask the model and the store; they must agree."""
        expected = getattr(self.models[team], call)(*words, now=self.now, **named)
        found = getattr(self.scripts[team], call)(*words, now=self.now, **named)
        assert found == expected
        return found

    def binding(self, team: str, key: str, model: str) -> list[Bound]:
        return [
            limit
            for limit in self.limits[team].values()
            if limit.scope in ("team", f"key:{key}") and limit.model in ("*", model)
        ]

    @rule(team=teams, request=requests)
    def reserve(self, team: str, request: dict[str, Any]) -> None:
        asked, who = request["asked"], {n: v for n, v in request.items() if n != "asked"}
        self.made += 1
        id = f"r{self.made:03}"
        self.known.append((team, id, who))
        limits = self.binding(team, who["key"], who["model"])
        reply = self.both(team, "reserve", id, asked, *limits, **who)
        if reply[0] == "ok":
            self.fits(team, [limit for limit in limits if takes(asked, limit)], reply[1])

    @rule(team=teams, request=requests)
    def observe(self, team: str, request: dict[str, Any]) -> None:
        """More requests than a minute has room for."""
        self.reserve(team, request | {"asked": MANY, "force": True})

    def fits(self, team: str, limits: list[Bound], now: int) -> None:
        """Nothing admitted is above a limit that it takes from, with all that was there before."""
        for limit in limits:
            taken, reserved, amount = self.models[team].figures(limit, now)
            assert taken + reserved <= amount

    @precondition(lambda self: self.known)
    @rule(pick=picks, asked=amounts)
    def reserve_again(self, pick: int, asked: Five) -> None:
        team, id, who = self.one(pick)
        if id in self.models[team].held:
            limits = self.binding(team, who["key"], who["model"])
            self.both(team, "reserve", id, asked, *limits, **who)

    @rule(
        team=teams,
        request=requests,
        ago=st.sampled_from((0, 0, MINUTE, DAY, -5 * SECOND)),
        again=st.booleans(),
        cached=st.integers(0, 9),
        image=st.integers(0, 9),
    )
    def post(self, team: str, request: dict[str, Any], ago: int, again: bool, **parts: int) -> None:
        """A request that was admitted `ago`, without the store."""
        who = {n: request[n] for n in ("key", "model", "provider")}
        self.made += 1
        id = f"r{self.made:03}"
        self.known.append((team, id, who))
        limits = self.binding(team, who["key"], who["model"])
        for _ in range(1 + again):
            admitted = self.now - ago
            self.both(
                team, "post", id, request["asked"], *limits, admitted=admitted, **who, **parts
            )

    @precondition(lambda self: self.known)
    @rule(
        pick=picks,
        amounts=used,
        provider=providers,
        cached=st.integers(0, 9),
        image=st.integers(0, 9),
        void=st.booleans(),
        times=st.integers(1, 2),
    )
    def settle(self, pick: int, amounts: Five, times: int, **named: Any) -> None:
        team, id, _ = self.one(pick)
        for _ in range(times):
            self.both(team, "settle", id, amounts, **named)

    @precondition(lambda self: self.known)
    @rule(some=st.lists(picks, max_size=3), counted=used)
    def renew(self, some: list[int], counted: Five) -> None:
        found = [self.one(pick) for pick in some]
        for team in TEAMS:
            so_far = [(id, counted) for whose, id, _ in found if whose == team]
            self.both(team, "renew", *so_far)

    @rule(team=teams, most=st.integers(0, 3))
    def sweep(self, team: str, most: int) -> None:
        self.both(team, "sweep", most=most)

    @rule(team=teams)
    def peek(self, team: str) -> None:
        self.both(team, "peek", *self.limits[team].values())

    @rule(step=steps, watched=st.sampled_from((True, True, False)))
    def wait(self, step: int, watched: bool) -> None:
        self.go_to(self.now + step, watched)

    def go_to(self, when: int, watched: bool) -> None:
        """Let time pass; where it is `watched`, somebody looks before it is a silence."""
        if watched and when - SPARE > self.now:
            self.now = when - SPARE
            for team in TEAMS:
                self.peek(team)
        self.now = when

    @precondition(lambda self: self.known)
    @rule(pick=picks, less=st.sampled_from((-1, 0)))
    def wait_for_end(self, pick: int, less: int) -> None:
        team, id, _ = self.one(pick)
        held = self.models[team].held.get(id)
        end = held.lease_end + less if held else 0
        self.go_to(max(self.now, end), watched=True)

    @rule(team=teams, most=st.integers(0, 3))
    def wait_for_all(self, team: str, most: int) -> None:
        """Sweep, once several may have run out since anybody looked."""
        ends = [held.lease_end for held in self.models[team].live.values()]
        self.go_to(max([self.now, *ends]), watched=True)
        self.sweep(team, most)

    @rule(turn=turns, back=st.sampled_from((0, 0, *BACK)))
    def wait_for_turn(self, turn: tuple[str, int], back: int) -> None:
        """A window turns, or soon will, and the clock then goes back."""
        window, less = turn
        self.now = max(self.now, (window_end(window, self.now) or 0) + less)
        if back:
            for team in TEAMS:
                self.peek(team)
            self.now += back

    @rule(team=teams, request=requests, again=st.booleans())
    def be_wrong(self, team: str, request: dict[str, Any], again: bool) -> None:
        """The clock is two hours ahead for a while, and requests go on."""
        self.now += 2 * HOUR
        self.reserve(team, request | {"force": True})
        self.now -= 2 * HOUR
        if again:
            self.reserve(team, request)

    @rule(team=teams, limit=limits)
    def set_limit(self, team: str, limit: Any) -> None:
        (*slot, sizes), pick, grant, ago = limit
        unit, window, scope, model = slot
        stamp = stamps(self.now).get(window, -1) - ago
        amount = sizes[pick % len(sizes)]
        self.limits[team][scope, *slot] = Bound(amount, unit, window, scope, model, grant, stamp)

    @rule(team=teams, pick=picks)
    def set_minutes(self, team: str, pick: int) -> None:
        for limit in MINUTES:
            self.set_limit(team, (limit, pick, 0, 0))

    @rule(team=teams, pick=picks)
    def drop_limit(self, team: str, pick: int) -> None:
        if self.limits[team]:
            del self.limits[team][list(self.limits[team])[pick % len(self.limits[team])]]

    @invariant()
    def agree(self) -> None:
        for team in TEAMS:
            self.models[team].agrees(self.scripts[team].contents())
