"""Tables: plain in a pipe, in colour on a terminal, never cut."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import redirect_stdout
from decimal import Decimal
from typing import Any

import pytest

from proxy.cli.output import say_good, show_csv, show_json, show_table

COLUMNS = ("name", "status", "count", "usd")
ROWS = [
    {"name": "a", "status": "active", "count": 1_234_567, "usd": Decimal("0.5")},
    {"name": "[red]b" + "x" * 300, "status": "revoked", "count": None, "usd": Decimal(1_000)},
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What a function draws on a terminal."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def draw(show: Callable[..., None], *words: Any, **more: Any) -> str:
        terminal = Terminal()
        with redirect_stdout(terminal):
            show(*words, **more)
        return terminal.getvalue()

    return draw


def test_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """In a pipe names are to the left, numbers to the right, and nothing is cut or coloured."""
    show_table(COLUMNS, ROWS, empty="none", totals={"name": "total", "count": 1_234_567})
    assert capsys.readouterr().out.splitlines() == [
        f"{'NAME':<308}STATUS       COUNT         USD",
        f"{'a':<308}active   1,234,567      0.5000",
        f"{'[red]b' + 'x' * 300:<308}revoked          -  1,000.0000",
        f"{'total':<308}         1,234,567",
    ]


def test_terminal(drawn: Callable[..., str]) -> None:
    """On a terminal a status has its colour; brackets are text; no line is cut in columns."""
    table = drawn(show_table, COLUMNS, ROWS, empty="none", totals={"count": 1_234_567})
    assert "\x1b[32mactive" in table
    assert "\x1b[31mrevoked" in table
    assert "[red]b" + "x" * 300 in table
    assert table.count("1,234,567") == 2
    assert len(table.splitlines()) == 4


def test_good_news(drawn: Callable[..., str]) -> None:
    """What is right is green on a terminal."""
    assert drawn(say_good, "fine") == "\x1b[32mfine\x1b[0m\n"


def test_no_colour(drawn: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR is obeyed (https://no-color.org)."""
    monkeypatch.setenv("NO_COLOR", "1")
    assert drawn(say_good, "fine") == "fine\n"
    assert "\x1b[32m" not in drawn(show_table, COLUMNS, ROWS, empty="none")


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON has a decimal's own digits, whatever a float would make of them."""
    show_json({"usd": Decimal(9_007_199_254_740_991) / 10**9})
    assert capsys.readouterr().out == '{\n  "usd": 9007199.254740991\n}\n'


def test_csv(capsys: pytest.CaptureFixture[str]) -> None:
    """CSV quotes what needs it; what is missing is empty."""
    show_csv(("a", "b", "c"), [{"a": 'x,"y"', "b": Decimal("1E-9")}])
    assert capsys.readouterr().out == 'a,b,c\n"x,""y""",0.000000001,\n'


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\uff1d"])
def test_csv_has_no_formulas(first: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A spreadsheet takes no text of a CSV for a formula; figures stay figures."""
    show_csv(("a", "b", "c"), [{"a": f"{first}1+1", "b": Decimal(-1), "c": -1}])
    assert capsys.readouterr().out == f"a,b,c\n'{first}1+1,-1,-1\n"
