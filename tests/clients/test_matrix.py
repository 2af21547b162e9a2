"""The matrix itself: what is wrong with a client, or with the gateway, shows as a red cell."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.clients.cells import CELLS, Cell, Seen, Way, breaks, counts, raises, says, streams, waits
from tests.clients.clients import CLIENTS, LOCKS, Client
from tests.clients.drive import Driver, Outcome, run_client
from tests.clients.homes import CannotInstall, home, install
from tests.clients.stand import Stand, open_stand
from tests.clients.table import well
from tests.clients.upstream import TEXT

WAY = Way("RateLimitError")
ERROR = {"kinds": ["OwnError", "RateLimitError", "Exception"], "text": "no room for 1 request"}
GOOD = Seen(TEXT, 4, (40, 8), None, 1)


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with open_stand() as opened:
        yield opened


@pytest.mark.parametrize(
    ("judge", "seen", "why"),
    [
        (says(TEXT), GOOD, None),
        (says(TEXT), Seen("The moon", 1, attempts=1), "is not in"),
        (says(TEXT), Seen(TEXT, 4, (40, 8)), "was not asked"),
        (says(TEXT), Seen(TEXT, 4, error=ERROR, attempts=1), "OwnError"),
        (streams, GOOD, None),
        (streams, Seen(TEXT, 1, attempts=1), "one piece"),
        (counts, GOOD, None),
        (counts, Seen(TEXT, 4, (40, 9), attempts=1), "usage"),
        (counts, Seen(TEXT, 4, None, attempts=1), "usage"),
        (raises("1 request", counted=True), Seen(error=ERROR, attempts=1), None),
        (raises("1 request", counted=True), Seen(error=ERROR, attempts=3), "asked 3 times"),
        (raises("1 request"), Seen(error=ERROR), "was not asked"),
        (raises("temperature"), Seen(error=ERROR, attempts=1), "not told"),
        (raises(), GOOD, "no error"),
        (raises(), Seen(error={"kinds": ["Other"], "text": ""}, attempts=1), "not RateLimitError"),
        (waits, Seen(TEXT, 1, attempts=2), None),
        (waits, Seen(TEXT, 1, attempts=1), "not refused"),
        (waits, Seen(error=ERROR, attempts=1), "OwnError"),
        (breaks, Seen("The", 1, error=ERROR, attempts=1), None),
        (breaks, Seen("The", 1, attempts=1), "no error"),
        (breaks, Seen("", 0, error=ERROR, attempts=1), "nothing was shown"),
        (breaks, Seen(TEXT, 4, error=ERROR, attempts=1), "not cut"),
    ],
)
def test_judges(judge: object, seen: Seen, why: str | None) -> None:
    """Each judge takes what is right, and says of anything else what is wrong."""
    found = judge(seen, WAY)  # type: ignore[operator]
    assert (found is None) if why is None else (why in found)


def made_up(folder: Path, body: str) -> Driver:
    """A driver of our own: `body` handles each question `ask`."""
    script = folder / "driver.py"
    script.write_text(f"import json, os, sys\nfor line in sys.stdin:\n{body}")
    return Driver([sys.executable, str(script)], folder, folder)


CLIENT = Client("made-up", "made-up", "", "driver.py")
LIE = json.dumps({"text": TEXT, "pieces": 4, "usage": [40, 8], "error": None, "seconds": 0})


async def outcomes(
    stand: Stand, driver: Driver, seconds: float, cells: tuple[Cell, ...] = CELLS
) -> dict[str, Outcome]:
    found: dict[str, Outcome] = {}

    def done(cell: Cell, outcome: Outcome) -> None:
        found[cell.name] = outcome

    await run_client(stand, CLIENT, driver, done, seconds, cells)
    return found


async def test_a_client_that_makes_up_its_answers(stand: Stand, tmp_path: Path) -> None:
    """A client that never asks the gateway has no green cell."""
    found = await outcomes(stand, made_up(tmp_path, f"    print({LIE!r}, flush=True)\n"), 10)
    assert len(found) == len(CELLS)
    assert [name for name, outcome in found.items() if outcome.ok is not False] == []
    assert not well({CLIENT: found})


async def test_a_client_that_hangs_or_dies(stand: Stand, tmp_path: Path) -> None:
    """A driver that hangs is ended at the cell's deadline, one that dies is begun again."""
    body = f"""\
    with open("pids", "a") as file:
        print(os.getpid(), file=file)
    op = json.loads(line)["op"]
    if op == "whole":
        print({LIE!r}, flush=True)
        continue
    if op == "stream":
        sys.stdin.read()  # for as long as anybody asks
    raise SystemExit("it is broken")
"""
    found = await outcomes(stand, made_up(tmp_path, body), 0.1, CELLS[:3])
    assert "not asked" in found["answer"].why
    assert "no answer" in found["stream"].why
    assert "it is broken" in found["image"].why
    pids = [int(line) for line in (tmp_path / "pids").read_text().splitlines()]
    assert len(set(pids)) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_package_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a registry does not give cannot be installed, and is not taken for installed later."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("tests.clients.homes.LOCKS", tmp_path)
    monkeypatch.setattr("tests.clients.homes._MAKE", ("-m", "venv", "--without-pip"))
    (tmp_path / "none.txt").write_text("none==0\n")
    for _ in range(2):
        with pytest.raises(CannotInstall, match="No module named pip"):
            install(Client("none", "none", "none.txt", "with_none.py"), print)


def test_a_command_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without npm a client of Node's cannot be installed, and that says so."""
    monkeypatch.setenv("PATH", "/nowhere")
    node = next(client for client in CLIENTS if client.node)
    with pytest.raises(CannotInstall, match="npm is not on the PATH"):
        install(node, print)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_rows(client: Client) -> None:
    """Each client has its lock and driver, an error's name for each cell that wants one, and a
    reason wherever it is not as the others.
    """
    names = {cell.name for cell in CELLS}
    wanting = {"401 key", "404 model", "400 field", "400 image", "429 budget", "cut"}
    assert client.errors.keys() == wanting <= names
    assert (LOCKS / client.lock).exists()
    apart = client.without | client.attempts.keys() | (set() if client.shows else {"cut"})
    assert client.notes.keys() == apart <= names


def test_a_folder_for_each_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients live below the user's cache directory, and another lock is another folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    homes = {client.lock: home(client) for client in CLIENTS if client.lock}
    assert len(set(homes.values())) == len(homes)
    assert all(tmp_path in place.parents for place in homes.values())
