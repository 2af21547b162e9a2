"""The chart: a panel for each measure, a bar for each gateway. SVG, for light and dark pages."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from html import escape

from bench.measures import MEASURES
from bench.report import OURS, Results, plain

WIDTH, MARGIN, LABEL, FIGURE = 760, 20, 96, 120
BAR, GAP, TITLE, PANEL_GAP = 16, 7, 26, 22
FULL = WIDTH - 2 * MARGIN - LABEL - FIGURE

#: A bar so many times as long as the longest of the yardsticks' and ours is cut.
CUT = 1.15

STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328 }
  .title { font-weight: 600 } .unit, .foot { fill: #59636e } .foot { font-size: 12px }
  .ours { font-weight: 600 } .figure { font-variant-numeric: tabular-nums }
  rect { fill: #afb8c1 } rect.ours { fill: #0969da } .page { fill: #ffffff }
  path { stroke: #1f2328; stroke-width: 1; fill: none; opacity: .55 } .cut { stroke: #ffffff;
  stroke-width: 4; opacity: 1 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .unit, .foot { fill: #9198a1 } rect { fill: #59636e }
    rect.ours { fill: #4493f8 } .page { fill: #0d1117 }
    path { stroke: #f0f6fc } .cut { stroke: #0d1117 }
  }
"""


def draw(results: Results, gateways: Sequence[str], foot: str) -> str:
    """The whole SVG; `foot` says when and where."""
    parts: list[str] = []
    top = float(MARGIN)
    for name, measure in MEASURES.items():
        found = {each: results[name][each] for each in gateways if each in results.get(name, {})}
        if found:
            parts += _panel(top, measure.title, measure.unit, found)
            top += TITLE + len(found) * (BAR + GAP) + PANEL_GAP
    parts.append(_text(MARGIN, top + 4, foot, "foot"))
    height = top + MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" '
        f'width="{WIDTH}" height="{height:g}" role="img" aria-label="What a stream costs">'
        f"<style>{STYLE}</style>"
        f'<rect class="page" width="{WIDTH}" height="{height:g}" rx="8"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _panel(top: float, title: str, unit: str, found: dict[str, list[float]]) -> Iterator[str]:
    yield _text(MARGIN, top + 13, title, "title", f", {unit}")
    shown = [max(found[name]) for name in found if name in ("bare", "nginx", OURS)]
    longest = max(shown or [max(max(values) for values in found.values())]) * CUT
    for row, (name, values) in enumerate(found.items()):
        yield from _bar(top + TITLE + row * (BAR + GAP), name, values, longest)


def _bar(y: float, name: str, values: Sequence[float], longest: float) -> Iterator[str]:
    left = MARGIN + LABEL
    low, middle, high = (
        max(0.0, min(1.0, value / longest)) * FULL
        for value in (min(values), statistics.median(values), max(values))
    )
    mark = "ours" if name == OURS else ""
    yield _text(MARGIN, y + 13, name, mark)
    yield f'<rect class="{mark}" x="{left}" y="{y:g}" width="{middle:.1f}" height="{BAR}" rx="2"/>'
    end = max(middle, high)
    if middle < FULL:
        across = y + BAR / 2
        ends = "".join(f"M{left + x:.1f} {across - 3:g}v6" for x in (low, high))
        yield f'<path d="M{left + low:.1f} {across:g}H{left + high:.1f}{ends}"/>'
    else:
        yield f'<path class="cut" d="M{left + FULL - 24} {y + BAR + 2:g}l8 -{BAR + 4}"/>'
    figure = plain(statistics.median(values))
    yield _text(left + end + 8, y + 13, figure, f"figure {mark}")


def _text(x: float, y: float, text: str, kind: str, more: str = "") -> str:
    tail = f'<tspan class="unit" font-weight="400">{escape(more)}</tspan>' if more else ""
    return f'<text x="{x:.1f}" y="{y:g}" class="{kind.strip()}">{escape(text)}{tail}</text>'
