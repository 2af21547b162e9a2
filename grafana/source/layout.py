"""Panels in lines, lines under titles, and a dashboard of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from grafana.source.panels import DATASOURCE, Json
from grafana.source.queries import PREFIX

FOLDER: Final = Path(__file__).parents[1] / "dashboards"

#: Of Grafana 11.0; later ones read older schemas.
SCHEMA: Final = 39

_COLUMNS: Final = 24

#: Panels side by side, which share the width, and their height.
Line = tuple[int, Sequence[Json]]

#: A title and the lines under it.
Section = tuple[str, Sequence[Line]]


def make(
    name: str,
    title: str,
    text: str,
    variables: Sequence[str],
    sections: Sequence[Section],
    *,
    since: str,
) -> Json:
    """A dashboard. `since` is the beginning of what is shown at first."""
    return {
        "uid": f"visiongate-{name}",
        "title": f"visiongate / {title}",
        "description": text,
        "tags": ["visiongate"],
        "timezone": "utc",
        "editable": True,
        "graphTooltip": 1,
        "schemaVersion": SCHEMA,
        "version": 1,
        "refresh": "1m",
        "time": {"from": since, "to": "now"},
        "annotations": {"list": [_restarts()]},
        "links": [link("visiongate", tags=["visiongate"])],
        "templating": {"list": [_datasource(), _job(), *map(_variable, variables)]},
        "panels": [
            {"id": number, **panel} for number, panel in enumerate(_placed(sections), start=1)
        ],
    }


def link(title: str, *, tags: Sequence[str] = (), url: str = "") -> Json:
    """To an address; or to all dashboards with these tags, with what is chosen."""
    return {
        "title": title,
        "type": "link" if url else "dashboards",
        "url": url,
        "tags": list(tags),
        "icon": "dashboard",
        "tooltip": "",
        "asDropdown": False,
        "targetBlank": False,
        "includeVars": not url,
        "keepTime": not url,
    }


def as_text(dashboard: Json) -> str:
    return json.dumps(dashboard, indent=2) + "\n"


def _placed(sections: Sequence[Section]) -> Iterator[Json]:
    top = 0
    for title, lines in sections:
        place = {"h": 1, "w": _COLUMNS, "x": 0, "y": top}
        yield {"type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}
        top += 1
        for height, panels in lines:
            ends = [_COLUMNS * number // len(panels) for number in range(len(panels) + 1)]
            for panel, left, right in zip(panels, ends, ends[1:], strict=False):
                yield {**panel, "gridPos": {"h": height, "w": right - left, "x": left, "y": top}}
            top += height


def _restarts() -> Json:
    """A mark wherever a gateway has begun."""
    return {
        "name": "Gateways started",
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": "blue",
        "expr": f'{PREFIX}start_time_seconds{{job=~"$job"}} * 1000',
        "useValueForTime": True,
        "titleFormat": "{{instance}} started",
        "step": "1m",
    }


def _datasource() -> Json:
    made = {"name": "datasource", "label": "Data source", "type": "datasource"}
    return {**made, "query": "prometheus", "refresh": 1, "regex": "", "hide": 0}


def _job() -> Json:
    return _chosen("job", f"label_values({PREFIX}build_info, job)")


def _variable(name: str) -> Json:
    also = "limit_amount" if name == "team" else "target_available"
    found = f'{{__name__=~"{PREFIX}requests_total|{PREFIX}{also}",job=~"$job"}}'
    return _chosen(name, f"label_values({found}, {name})")


def _chosen(name: str, found: str) -> Json:
    """A variable of which any may be chosen; all are all, also what has no such label."""
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": DATASOURCE,
        "query": found,
        "definition": found,
        "regex": "/.+/",
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "hide": 0,
    }
