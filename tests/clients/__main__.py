"""Client libraries against a running gateway: `make clients`, or `python -m tests.clients`."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.clients import homes
from tests.clients.cells import CELLS, Cell
from tests.clients.clients import CLIENTS, Client
from tests.clients.drive import Driver, Outcome, run_client
from tests.clients.stand import Stand, open_stand
from tests.clients.table import as_json, show, well

AT_ONCE = 2


def main() -> int:
    options = _options()
    # Whatever ends it, what it has started ends first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    wanted = [client for client in CLIENTS if client.name in options.only]
    missing = {}
    for client in wanted:
        try:
            homes.install(client, tell)
        except homes.CannotInstall as error:
            missing[client] = f"it cannot be installed: {error}"
            tell(f"{client.name}: {missing[client]}")
    there = [client for client in wanted if client not in missing]
    found = asyncio.run(run(there)) if there else {}
    results = {client: found.get(client) or _all(missing.get(client, "")) for client in wanted}
    versions = {client: "" if client in missing else version(client) for client in wanted}
    if options.json:
        sys.stdout.write(json.dumps(as_json(results, versions), indent=2) + "\n")
    else:
        show(results, versions)
    return 0 if well(results) else 1


def _options() -> argparse.Namespace:
    names = [client.name for client in CLIENTS]
    parser = argparse.ArgumentParser(prog="make clients", description=__doc__)
    parser.add_argument("--only", type=_names, default=names, help=", ".join(names))
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    given, known = text.split(","), [client.name for client in CLIENTS]
    unknown = [name for name in given if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"no {', '.join(unknown)}; there are {', '.join(known)}")
    return given


def _all(why: str) -> dict[str, Outcome]:
    return {cell.name: Outcome(False, why) for cell in CELLS}


def tell(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


async def run(clients: Sequence[Client]) -> dict[Client, dict[str, Outcome]]:
    """All of them before one gateway, a few at a time."""
    results: dict[Client, dict[str, Outcome]] = {client: {} for client in clients}
    slots = asyncio.Semaphore(AT_ONCE)
    async with open_stand() as stand, asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(_run(stand, client, slots, results[client]))
    return results


async def _run(
    stand: Stand, client: Client, slots: asyncio.Semaphore, results: dict[str, Outcome]
) -> None:
    def done(cell: Cell, outcome: Outcome) -> None:
        results[cell.name] = outcome
        word = {True: "ok", False: "FAILED", None: "-"}[outcome.ok]
        tell(f"{client.name}: {cell.name} {word} ({outcome.seconds:.1f} s)")

    async with slots:
        with tempfile.TemporaryDirectory(prefix="vg-client-") as folder:
            driver = Driver(homes.command(client), homes.home(client), Path(folder))
            await run_client(stand, client, driver, done)


def version(client: Client) -> str:
    """The version of the client that was run."""
    if not client.lock:
        told = subprocess.run((client.package, "--version"), capture_output=True, text=True)
        return told.stdout.split()[1]
    if client.node:
        package = homes.home(client) / "node_modules" / client.package / "package.json"
        return str(json.loads(package.read_text())["version"])
    pins = (homes.LOCKS / client.lock).read_text().split()
    return next(pin.partition("==")[2] for pin in pins if pin.partition("==")[0] == client.package)


if __name__ == "__main__":
    sys.exit(main())
