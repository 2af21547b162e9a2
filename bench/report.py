"""Tables of what was measured, beside what it should be."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.measures import MEASURES

#: By series, then gateway, a value for each repetition. A series is a measure, or a part of one
#: after a dot: "n1.store", "lat.p99".
Results = dict[str, dict[str, list[float]]]

OURS = "visiongate"

#: What is part of a measure, and how it is called.
PARTS = {"store": "its store's CPU", "p99": "the same, p99"}


@dataclass(frozen=True)
class Target:
    """What a measure of ours should be, as a ratio to another gateway's or by itself."""

    measure: str
    to: str
    must: float
    aim: float


TARGETS = (
    Target("n1", "bare", 0.9, 0.6),
    Target("busy", "bare", 0.6, 0.45),
    Target("busy", "nginx", 1.6, 1.1),
    Target("n1", "litellm", 1 / 100, 1 / 180),
    Target("lat", "bare", 1.0, 0.6),
    Target("mb", "bare", 1.5, 1.1),
    Target("hold", "", 20, 14),
    Target("mem", "", 60, 40),
    Target("tls", "bare", 0.8, 0.6),
)


def show(console: Console, results: Results, gateways: Sequence[str]) -> None:
    """Both tables: the figures, and what is held against them."""
    console.print(figures(results, gateways))
    if OURS in gateways:
        console.print(verdicts(results))
    console.print("Medians, and in brackets the smallest and the largest of the repetitions.")


def figures(results: Results, gateways: Sequence[str]) -> Table:
    table = Table(title="What a stream costs")
    table.add_column("measure")
    table.add_column("", overflow="fold")
    for name in gateways:
        table.add_column(name, justify="right")
    for name, measure in MEASURES.items():
        parts = {f"{name}.{part}": title for part, title in PARTS.items()}
        for series, title in {name: measure.title, **parts}.items():
            if found := results.get(series):
                cells = [spread(found[each]) if each in found else "" for each in gateways]
                label = name if series == name else ""
                table.add_row(label, f"{title}, {measure.unit}", *cells)
    return table


def verdicts(results: Results) -> Table:
    table = Table(title=f"{OURS} beside the others")
    for heading in ("measure", "ratio to", "is", "must", "aim", ""):
        table.add_column(heading, justify="left" if heading in ("measure", "ratio to") else "right")
    for target in TARGETS:
        found = against(results, target)
        if found:
            middle = ratio(results, target)
            word, style = verdict(middle, target)
            bounds = (f"<= {plain(bound)}" for bound in (target.must, target.aim))
            unit = MEASURES[target.measure].unit
            shown = f"{plain(middle)} [{plain(min(found))}–{plain(max(found))}]"
            table.add_row(
                target.measure, target.to or f"(in {unit})", shown, *bounds, Text(word, style=style)
            )
    return table


def against(results: Results, target: Target) -> list[float]:
    """Our figure over the other's, repetition by repetition; none where one was not measured."""
    found = results.get(target.measure, {})
    ours = found.get(OURS, [])
    if not target.to:
        return ours
    return [mine / its for mine, its in zip(ours, found.get(target.to, []), strict=False)]


def ratio(results: Results, target: Target) -> float:
    """Of the medians."""
    found = results[target.measure]
    ours = statistics.median(found[OURS])
    return ours / statistics.median(found[target.to]) if target.to else ours


def verdict(value: float, target: Target) -> tuple[str, str]:
    """A word and its colour."""
    if value <= target.aim:
        return "aim met", "bold green"
    return ("met", "green") if value <= target.must else ("not met", "bold red")


def spread(values: Sequence[float]) -> str:
    middle = plain(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} [{plain(min(values))}–{plain(max(values))}]"


def plain(value: float) -> str:
    """Three digits that count."""
    size = abs(value)
    digits = next((n for n, bound in enumerate((100, 10, 1, 0.1)) if size >= bound), 4)
    return f"{value:,.{digits}f}"
