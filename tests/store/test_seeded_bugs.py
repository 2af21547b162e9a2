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

BUGS = {
    "admits whatever is asked": ("force == 1 and 'observed' or 'refused'", "'ok'"),
    "forgets what is reserved": ("used + reserved + more > amount", "used + more > amount"),
    "admits one too many": ("reserved + more > amount then", "reserved + more > 1 + amount then"),
    "asks the last limit alone": (
        "> amount then fits = false end",
        "> amount then fits = false else fits = true end",
    ),
    "makes a reservation twice": (
        "('HSETNX', RESERVATIONS, id, reservation) == 0",
        "('HSET', RESERVATIONS, id, reservation) == 2",
    ),
    "revives what has expired at a retry": (
        "if before and before[STATE] < 2 then",
        "if before then",
    ),
    "revives what has expired at a renewal": (
        "if not reservation or reservation[STATE] == 2",
        "if not reservation",
    ),
    "does not extend a lease": ("redis.call('ZADD', LEASES, lease_end, id)", ""),
    "does not note the count so far": (
        "string.sub(packed, 1, 64) .. counted",
        "string.sub(packed, 1, 112)",
    ),
    "settles twice": ("redis.call('HDEL', RESERVATIONS, id)\nend\nif not", "end\nif not"),
    "charges all again when late": ("amounts[i] - reservation[COUNTED + i]", "amounts[i]"),
    "refunds all when late": (
        "live, before, posted = 0, COUNTED, {}",
        "live, before, posted = 0, ASKED, {}",
    ),
    "leaves the row of a late one where it was": (
        "add_row(reservation, reservation[PROVIDER], back, 0, 0)",
        "",
    ),
    "lets a reservation come after it was given back": (
        "if void then",
        "if void and reservation then",
    ),
    "lets a reservation come again after it was settled": (
        "if void then",
        "if void and not reservation then",
    ),
    "keeps what was reserved": ("reserved[i] = -reservation[ASKED + i]", "reserved[i] = 0"),
    "keeps the place of one that has ended": (
        "posted, reserved = -1, ASKED",
        "posted, reserved = 0, ASKED",
    ),
    "charges the window of now": ("at, wrote = math.floor(admitted / HOUR),", "at, wrote = hour,"),
    "charges the day of now": ("if day ~= math.floor(now / DAY) then", "if false then"),
    "does not start a new window": ("elseif turned then", "elseif false then"),
    "carries reservations into a new window": (
        "elseif turned then",
        "elseif turned and window == 3 then",
    ),
    "turns a window back": ("elseif seen > now then", "elseif false then"),
    "takes 29 February for 1 March": ("math.floor(doe / 1460)", "math.floor(doe / 1461)"),
    "does not charge a lost lease": (
        "{unpack(reservation, COUNTED + 1, COUNTED + 6)}",
        "{0, 0, 0, 0, 0, 0}",
    ),
    "sweeps what is alive": ("LEASES, '-inf', now,", "LEASES, '-inf', now + 20001,"),
    "sweeps more than it may": ("now, 'LIMIT', 0, most)", "now)"),
    "forgets the expired at once": (
        "local KEEP_EXPIRED = 7 * DAY",
        "local KEEP_EXPIRED = DAY / 24",
    ),
    "never forgets the expired": ("redis.call('ZREM', EXPIRED, id)\n  end", "end"),
    "leaks too fast": ("* amount / MINUTE", "* amount / 59000"),
    "does not refund a bucket": (
        "words[#words + 1], words[#words + 2] = fields[i], fill(counters[i], nil, more)",
        "",
    ),
    "refunds a bucket what has leaked": ("if more < 0 then", "if false then"),
    "fills a bucket at the end": (
        "fill(counters[place], amount, more,",
        "fill(counters[place], amount, 0,",
    ),
    "leaves a debt where it observes": ("not fits and amount or nil", "nil"),
    "keeps a bucket too full for its limit": ("old = math.min(old, amount)", ""),
    "leaks at the first amount": ("amount = amount or last", "amount = last"),
    "shares one key's budget": ("'key:' .. reservation[KEY] .. '|'", "'key:k1|'"),
    "counts no model by itself": (
        "fields[3], add(fields[3], counters[3], wrote, at, live, posted, reserved),",
        "",
    ),
    "reserves images as requests": (
        "asked, reply = {requests, input, output, images,",
        "asked, reply = {requests, input, output, requests,",
    ),
    "charges images as requests": (
        "amounts = {requests, input, output, images,",
        "amounts = {requests, input, output, requests,",
    ),
    "grants for ever": ("if begins <= now and now < ends then", "if true then"),
    "posts twice": (
        "if redis.call('HEXISTS', RESERVATIONS, id) == 1 then return {'absent'} end",
        "",
    ),
    "posts to the day of now": ("math.min(tonumber(ARGV[6]), now)", "now"),
    "posts to a day to come": ("math.min(tonumber(ARGV[6]), now)", "tonumber(ARGV[6])"),
    "posts to windows that have turned": (
        "add(fields[i], counters[i], writings, math.floor(admitted / HOUR), 0,",
        "add(fields[i], counters[i], writings, hour, 0,",
    ),
    "posts past the buckets": (
        "fill(counters[i], amount, amounts[part])",
        "fill(counters[i], amount, 0)",
    ),
    "does not spare leases after a silence": ("now - seen > SILENCE", "false"),
    "spares leases for ever": (
        "spared <= now or spared - now > SPARE",
        "spared - now > SPARE or spared == 0",
    ),
    "spares leases that need not be": ("now - seen > SILENCE", "now - seen > 7000"),
    "does not count what it writes": ("writings = writings + 1", ""),
    "rounds money": (
        "f + amounts[4], g + amounts[5])",
        "f + amounts[4], tostring(g + amounts[5]))",
    ),
    "loses a bucket": ("words[#words + 1], words[#words + 2] = ARGV[9 + place], full", ""),
    "fills a bucket once": (
        "math.min(math.max(0, old + more), most",
        "math.min(math.max(0, more), most",
    ),
    "sweeps too late": ("due = math.min(due, now + lease)", ""),
    "keeps what may not come too long": ("due = math.min(due, now + KEEP_VOID)", ""),
    "looks for what is due once": (
        "due = math.min(lease or math.huge,",
        "due = math.max(lease or math.huge,",
    ),
    "leaves an hour out of its day": (
        "{a, A, b, B, c, C, d, D, e, E, f, F}, true)",
        "{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, true)",
    ),
    "asks a past for another window": ("104 * (kind - 2)", "104 * (4 - kind)"),
    "does not see that the clock went back": ("jumped = writings", "jumped = 0"),
    "turns an hour for what ends": ("if wrote == writings and of ~= hour", "if of ~= hour"),
    "charges an hour that began anew": ("(at ~= of or wrote < jumped)", "at ~= of"),
    "charges a day that began anew": ("if past[since] <= wrote and together", "if together"),
    "begins an hour as if it had not ended": ("past[1] = writings", "past[1] = 0"),
    "begins a day as if it had not ended": ("past[since] = writings", ""),
    "sweeps too late what was renewed": ("due = math.min(due, lease_end)", ""),
    "forgets the date": ("today = day_text(math.floor(now / DAY))", ""),
    "forgets what is posted": ("a + p[1], A + r[1], b + p[2]", "a + p[1], A + r[1], b"),
}


#: Those that take hundreds of tries to be found.
RARE = (
    "revives what has expired at a retry",
    "does not see that the clock went back",
    "charges an hour that began anew",
    "begins an hour as if it had not ended",
)
ROWS = [
    pytest.param(edit, id=name, marks=[pytest.mark.fuzz] if name in RARE else [])
    for name, edit in BUGS.items()
]


@pytest.mark.parametrize("edit", ROWS)
def test_seeded_bug(store_url: str, edit: tuple[str, str]) -> None:
    """A ledger with this bug is one that compiles, and disagrees with its model."""
    sown = [name for name in NAMES if seeded(name, [edit]) != seeded(name, [])]
    assert sown, "the text to replace is no longer in the scripts"
    with connect(store_url) as client:
        for name in sown:
            client.script_load(seeded(name, [edit]))
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
