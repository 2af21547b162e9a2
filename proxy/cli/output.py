"""What commands print: tables for people, JSON and CSV for programs."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec

#: USD in a table; JSON and CSV have all nine places.
_PLACES: Final = 4
_WIDEST: Final = 4096  # characters
_STYLES: Final = {
    "active": "green",
    "paused": "yellow",
    "expired": "red",
    "revoked": "red",
    "replaced": "red",
    "deleted": "red",
    "disabled": "yellow",
}
#: https://owasp.org/www-community/attacks/CSV_Injection
_FORMULAS: Final = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
_encode = msgspec.json.Encoder(decimal_format="number").encode


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """Beside the answer: what a program that reads the answer does not want."""
    sys.stdout.flush()
    sys.stderr.write(text + "\n")


def show_json(value: Any) -> None:
    say(as_json(value))


def as_json(value: Any) -> str:
    return msgspec.json.format(_encode(value), indent=2).decode()


def show_csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Text that a spreadsheet would take for a formula begins with an apostrophe."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_csv_cell(row.get(column)) for column in columns] for row in rows)


def _csv_cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULAS):
        return f"'{value}"
    return f"{value:f}" if isinstance(value, Decimal) else value


def show_table(
    columns: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    *,
    empty: str,
    totals: Mapping[str, Any] | None = None,
) -> None:
    """Columns by name; numbers to the right. `empty` is said where there are no rows."""
    if not rows:
        say(empty)
        return
    lines = [[_cell(row.get(name)) for name in columns] for row in rows]
    foot = [_cell(totals.get(name, "")) for name in columns] if totals else None
    right = [any(isinstance(row.get(name), int | Decimal) for row in rows) for name in columns]
    if sys.stdout.isatty():
        _draw(columns, lines, foot, right)
    else:
        _write_plain([[c.upper() for c in columns], *lines, *([foot] if foot else [])], right)


def show_fields(fields: Mapping[str, Any]) -> None:
    """One thing, a line for each of its fields."""
    width = max(map(len, fields))
    for name, value in fields.items():
        say(f"{name.ljust(width)}  {_cell(value)}")


def say_good(text: str) -> None:
    """In green on a terminal."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.text import Text

        Console().print(Text(text, style="green"))
    else:
        say(text)


def _cell(value: Any) -> str:
    if value is None or value in ([], {}, ()):
        return "-"
    if isinstance(value, Decimal):
        return f"{value:,.{_PLACES}f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={item}" for name, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value))
    return str(value)


def _write_plain(lines: Sequence[Sequence[str]], right: Sequence[bool]) -> None:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ]
        say("  ".join(cells).rstrip())


def _draw(
    columns: Sequence[str],
    lines: Sequence[Sequence[str]],
    foot: Sequence[str] | None,
    right: Sequence[bool],
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.show_footer, table.footer_style = foot is not None, "bold"
    for index, column in enumerate(columns):
        justify: Literal["left", "right"] = "right" if right[index] else "left"
        table.add_column(column, foot[index] if foot else "", justify=justify, no_wrap=True)
    for line in lines:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in line))
    # A terminal that is too narrow wraps whole lines; columns would cut figures in two.
    Console(width=_WIDEST).print(table)
