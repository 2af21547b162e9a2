"""A test of the test: bugs sown into the scripts are found by the state machine."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import redis
from hypothesis import Phase, settings
from hypothesis.internal.constants_ast import Constants
from hypothesis.stateful import run_state_machine_as_test

from tests.store.machine import LedgerMachine
from tests.store.scripts import NAMES, connect, seeded

NONE = "NOTHING"
BUGS = {
    "admits whatever is asked": ("if not fits and ARGV[16] ~= '1' then", "if false then"),
    "forgets what is reserved": ("limit.used + limit.reserved + limit.asked", "limit.used"),
    "admits one too many": (
        "+ limit.asked > limit.amount then",
        "+ limit.asked > 1 + limit.amount then",
    ),
    "asks the last limit alone": (
        "    fits = false\n  end",
        "    fits = false\n  else\n    fits = true\n  end",
    ),
    "makes a reservation twice": ("if before then", "if false then"),
    "revives what has expired at a retry": ("before.x and {'gone'} or ", ""),
    "revives what has expired at a renewal": (
        "if not reservation or reservation.x",
        "if not reservation",
    ),
    "does not extend a lease": ("redis.call('ZADD', LEASES, lease_end, id)", ""),
    "does not note the count so far": ("reservation.c = amounts_at(i + 4)", ""),
    "settles twice": ("redis.call('HDEL', RESERVATIONS, id)\nend\nif not", "end\nif not"),
    "charges all again when late": ("add(reservation, back, " + NONE + ")", ""),
    "refunds all when late": (
        "refill(reservation, now, reservation.c,",
        "refill(reservation, now, reservation.a,",
    ),
    "leaves the row of a late one where it was": (
        "add_row(reservation, reservation.p, back, 0, 0)",
        "",
    ),
    "lets a reservation come after it was given back": (
        "if ARGV[11] == '1' then",
        "if reservation and ARGV[11] == '1' then",
    ),
    "lets a reservation come again after it was settled": (
        "if ARGV[11] == '1' then",
        "if not reservation and ARGV[11] == '1' then",
    ),
    "keeps what was reserved": (
        "add(reservation, amounts, negative(reservation.a))",
        "add(reservation, amounts, " + NONE + ")",
    ),
    "keeps the place of one that has ended": ("of[1] = of[1] - 1", "of[1] = of[1]"),
    "charges the window of now": ("if of[base] == reservation.s[window] then", "do"),
    "charges the day of now": ("day_of(reservation.t)", "day_of(tally('team', '*')[CLOCK])"),
    "does not start a new window": ("for i = base + 1, base + 10 do of[i] = 0 end", ""),
    "carries reservations into a new window": ("base + 10 do of[i] = 0", "base + 5 do of[i] = 0"),
    "turns a window back": ("if seen > now and seen - now < HOUR then return seen end", ""),
    "takes 29 February for 1 March": ("math.floor(doe / 1460)", "math.floor(doe / 1461)"),
    "does not charge a lost lease": ("reservation.c, 0, 0)", NONE + ", 0, 0)"),
    "sweeps what is alive": ("LEASES, '-inf', int(now),", "LEASES, '-inf', int(now + 20001),"),
    "sweeps more than it may": ("int(now), 'LIMIT', 0, most)", "int(now))"),
    "forgets the expired at once": (
        "local KEEP_EXPIRED = 7 * DAY",
        "local KEEP_EXPIRED = DAY / 24",
    ),
    "never forgets the expired": ("redis.call('ZREM', EXPIRED, id)\n  end", "end"),
    "leaks too fast": ("* amount / MINUTE", "* amount / 59000"),
    "does not refund a bucket": ("refill(reservation, now, reservation.a, amounts)", ""),
    "refunds a bucket what has leaked": ("more < 0 and rate", "false"),
    "fills a bucket at the end": ("limit.amount, now, limit.asked,", "limit.amount, now, 0,"),
    "leaves a debt where it observes": ("not fits and limit.amount or nil", "nil"),
    "keeps a bucket too full for its limit": ("old = math.min(old, amount)", ""),
    "leaks at the first amount": ("amount = amount or last", "amount = last"),
    "shares one key's budget": ("{'team', 'key:' .. reservation.k}", "{'team', 'key:k1'}"),
    "counts no model by itself": ("act(tally(scope, reservation.m))", ""),
    "counts images as requests": ("['images'] = {4}", "['images'] = {1}"),
    "grants for ever": ("tonumber(ARGV[i + 6]) == stamps[number]", "true"),
    "posts twice": ("if get(id) then return {'absent'} end", ""),
    "posts to the day of now": ("math.min(tonumber(ARGV[6]), now)", "now"),
    "posts to a day to come": ("math.min(tonumber(ARGV[6]), now)", "tonumber(ARGV[6])"),
    "posts to windows that have turned": (
        "each_tally(request, function(of) turned(of, stamps) end)",
        "each_tally(request, function(of) turned(of, request.s) end)",
    ),
    "posts past the buckets": ("fill(limit.bucket, limit.amount, now, of_unit(", "tostring(("),
    "does not spare leases after a silence": ("now - seen > SILENCE", "false"),
    "spares leases for ever": ("spared <= 0 or spared > SPARE", "spared > SPARE"),
    "spares leases that need not be": ("now - seen > SILENCE", "now - seen > 7000"),
    "does not count what it writes": ("team[SEQUENCE] = team[SEQUENCE] + 1", ""),
    "rounds money": (
        "string.format('%d %d %d %d %d %d %d', unpack(sums))",
        "table.concat(sums, ' ')",
    ),
    "loses a bucket": ("filled[field] = stored[field]", ""),
    "fills a bucket once": ("stored[field] = string.format(", "local _ = string.format("),
    "forgets what is posted": ("if posted[i] ~= 0 then", "if false then"),
}


@pytest.mark.parametrize("edit", BUGS.values(), ids=BUGS.keys())
def test_seeded_bug(store_url: str, edit: tuple[str, str]) -> None:
    """A ledger with this bug disagrees with its model."""
    sown = [seeded(name, [edit]) != seeded(name, []) for name in NAMES]
    assert any(sown), "the text to replace is no longer in the scripts"
    with pytest.raises((AssertionError, redis.ResponseError)):
        search(store_url, [edit])


def search(url: str, edits: Sequence[tuple[str, str]]) -> None:
    """Run the state machine until it finds something: the same steps every time.

    Of itself hypothesis also tries the constants of whatever modules happen to be loaded.
    """
    found = settings(
        max_examples=1000,
        stateful_step_count=40,
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
    )
    with connect(url) as client, pytest.MonkeyPatch.context() as patch:
        patch.setattr("hypothesis.internal.conjecture.providers._get_local_constants", Constants)
        machine = type("Sown", (LedgerMachine,), {"client": client, "edits": edits})
        run_state_machine_as_test(machine, settings=found)
