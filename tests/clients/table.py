"""The matrix as it is shown: a table with footnotes, or JSON."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from tests.clients.cells import CELLS
from tests.clients.clients import Client
from tests.clients.drive import Outcome

Results = Mapping[Client, Mapping[str, Outcome]]

_MARKS = {True: "[green]✓[/]", False: "[bold red]✗[/]", None: "-"}


def show(results: Results, versions: Mapping[Client, str]) -> None:
    """A table to standard output; what is red, and what is not there, is told below it."""
    console = Console(width=None if sys.stdout.isatty() else 170, highlight=False)
    table = Table(*(Column(name, no_wrap=True) for name in ("client", "version")))
    for cell in CELLS:
        table.add_column(cell.name)
    notes: list[str] = []
    for client, cells in results.items():
        marks = [_mark(client, name, cells[name], notes) for name in (c.name for c in CELLS)]
        table.add_row(client.name, versions[client], *marks)
    console.print(table)
    for number, note in enumerate(notes, 1):
        console.print(f"{number:3} {escape(note)}", soft_wrap=True)
    for client, cells in results.items():
        for name, outcome in cells.items():
            if outcome.ok is False:
                told = escape(f"{client.name}, {name}: {outcome.why}")
                console.print(f"[bold red]✗[/] {told}", soft_wrap=True)


def _mark(client: Client, name: str, outcome: Outcome, notes: list[str]) -> str:
    note = client.notes.get(name)
    if note is None or outcome.ok is False:
        return _MARKS[outcome.ok]
    if note not in notes:
        notes.append(note)
    return f"{_MARKS[outcome.ok]} {notes.index(note) + 1}"


def as_json(results: Results, versions: Mapping[Client, str]) -> Any:
    """{"ok", "clients": {name: {"version", "cells": {cell: {"ok", "why", "note", "seconds"}}}}}"""
    clients = {
        client.name: {
            "version": versions[client],
            "cells": {
                name: {
                    "ok": outcome.ok,
                    "why": outcome.why,
                    "note": client.notes.get(name, ""),
                    "seconds": round(outcome.seconds, 3),
                }
                for name, outcome in cells.items()
            },
        }
        for client, cells in results.items()
    }
    return {"ok": well(results), "clients": clients}


def well(results: Results) -> bool:
    return all(outcome.ok is not False for cells in results.values() for outcome in cells.values())
