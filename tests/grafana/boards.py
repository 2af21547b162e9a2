"""The dashboards as they are committed, and what Grafana would ask for them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

FOLDER: Final = Path(__file__).parents[2] / "grafana"
BOARDS: Final[dict[str, Any]] = {
    file.stem: json.loads(file.read_text()) for file in sorted(FOLDER.glob("dashboards/*.json"))
}


class Query(NamedTuple):
    """One of a panel's; `id` names it in a test's output."""

    id: str
    expr: str
    legend: str
    instant: bool
    panel: Mapping[str, Any]


def panels(board: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """All but the rows."""
    return (panel for panel in board["panels"] if panel["type"] != "row")


def queries() -> Iterator[Query]:
    for name, board in BOARDS.items():
        for panel in panels(board):
            for target in panel["targets"]:
                id = f"{name}: {panel['title']} {target['refId']}"
                legend = target["legendFormat"]
                yield Query(id, target["expr"], legend, target["instant"], panel)


def filled(expr: str, seconds: int, **chosen: str) -> str:
    """With the variables filled in: what is not chosen is all."""
    values = {
        "__range_s": str(seconds),
        "__range": f"{seconds}s",
        "__rate_interval": "1m",
        **chosen,
    }
    made = re.sub(r"\$(\w+)", lambda found: values.get(found[1], ".*"), expr)
    assert "$" not in made, made
    return made
