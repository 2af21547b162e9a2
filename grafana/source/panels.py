"""The kinds of panels, with the same looks everywhere.

A panel is Grafana's JSON without its place. `none` is what it says where there is no data.
Source: https://github.com/grafana/grafana-foundation-sdk, jsonschema/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

Json = dict[str, Any]

DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}

#: Where a value turns yellow and red: None is below all.
Steps = Sequence[tuple[float | None, str]]

PLAIN: Final[Steps] = ((None, "blue"),)
SHARE_OF_LIMIT: Final[Steps] = ((None, "green"), (0.8, "orange"), (0.95, "red"))
SHARE_FAILED: Final[Steps] = ((None, "green"), (0.01, "orange"), (0.05, "red"))
NONE_IS_WELL: Final[Steps] = ((None, "green"), (1, "red"))

#: One colour for one meaning.
COLOURS: Final = {
    "input": "blue",
    "output": "purple",
    "allowed": "green",
    "refused": "red",
    "2xx": "green",
    "4xx": "orange",
    "5xx": "red",
    "complete": "green",
    "client_gone": "blue",
    "hit": "green",
    "miss": "orange",
    "shared": "blue",
    "p50": "green",
    "p95": "orange",
    "p99": "red",
}


def query(expr: str, legend: str = "", *, instant: bool = False, form: str = "time_series") -> Json:
    made: Json = {"expr": expr, "editorMode": "code", "format": form, "range": not instant}
    return {**made, "instant": instant, "legendFormat": legend or "__auto"}


QUANTILES: Final = ("p50", "p95", "p99")
CLASSES: Final = ("2xx", "4xx", "5xx")


def quantiles(find: Any, *shares: float) -> list[Json]:
    """The same for several quantiles; `find` has the query for one."""
    return [query(find(share), f"p{share * 100:g}") for share in shares]


def stat(
    title: str,
    text: str,
    expr: str,
    unit: str = "short",
    *,
    none: str = "0",
    steps: Steps = PLAIN,
    since: str = "",
    decimals: int | None = None,
    legend: str = "",
) -> Json:
    """One number. `since`: of which time, instead of what is shown ("now/d": today, UTC)."""
    made = _panel("stat", title, text, [query(expr, legend, instant=True)], unit, steps, none)
    made["options"] = {
        "colorMode": "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "percentChangeColorMode": "standard",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "showPercentChange": False,
        "textMode": "value_and_name" if legend else "value",
        "wideLayout": True,
    }
    if decimals is not None:
        made["fieldConfig"]["defaults"]["decimals"] = decimals
    if since:
        made["timeFrom"] = since
    return made


def graph(
    title: str,
    text: str,
    queries: Sequence[Json],
    unit: str = "short",
    *,
    none: str,
    stacked: bool = False,
    steps: Steps = (),
    colours: Sequence[str] = (),
    days: int = 0,
) -> Json:
    """Lines over time; `colours` names those whose colour is one of COLOURS. `days`: a bar for each
    of the last so many days instead, in UTC.
    """
    made = _panel("timeseries", title, text, queries, unit, steps or PLAIN, none)
    defaults = made["fieldConfig"]["defaults"]
    defaults["color"] = {"mode": "palette-classic-by-name"}
    made["fieldConfig"]["overrides"] = [_coloured(name) for name in colours]
    defaults["min"] = 0
    defaults["custom"] = {
        "drawStyle": "bars" if days else "line",
        "barAlignment": 1 if days else 0,
        "fillOpacity": 80 if days else 25 if stacked else 5,
        "lineWidth": 1,
        "lineInterpolation": "linear",
        "showPoints": "never" if days else "auto",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if steps else "off"},
    }
    legend = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
    made["options"] = {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
    if days:
        made.update(timeFrom=f"{days}d", interval="1d")
    return made


def bars(
    title: str,
    text: str,
    expr: str,
    legend: str,
    unit: str = "short",
    *,
    none: str,
    steps: Steps = PLAIN,
    most: float | None = None,
) -> Json:
    """The values of now side by side, the greatest first."""
    found = query(f"sort_desc({expr})", legend, instant=True)
    made = _panel("bargauge", title, text, [found], unit, steps, none)
    made["fieldConfig"]["defaults"]["min"] = 0
    if most is not None:
        made["fieldConfig"]["defaults"]["max"] = most
    made["options"] = {
        "displayMode": "gradient",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []},
        "maxVizHeight": 24,
        "minVizHeight": 16,
        "minVizWidth": 8,
        "namePlacement": "left",
        "orientation": "horizontal",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "showUnfilled": True,
        "sizing": "auto",
        "valueMode": "color",
    }
    return made


def table(
    title: str,
    text: str,
    by: Mapping[str, str],
    columns: Sequence[tuple[str, str, str]],
    *,
    none: str,
    sort: str,
    steps: Mapping[str, Steps] | None = None,
) -> Json:
    """A row for each of the labels `by` (label: heading); `columns` are (heading, query, unit).
    `steps` have the headings whose cells have a bar, up to 1.
    """
    queries = [query(expr, instant=True, form="table") for _, expr, _ in columns]
    made = _panel("table", title, text, queries, "short", PLAIN, none)
    made["fieldConfig"]["defaults"]["custom"] = {"align": "auto", "inspect": False}
    for heading, _, unit in columns:
        properties: list[Json] = [{"id": "unit", "value": unit}]
        if heading in (steps or {}):
            cell = {"type": "gauge", "mode": "gradient", "valueDisplayMode": "text"}
            properties += [
                {"id": "min", "value": 0},
                {"id": "max", "value": 1},
                {"id": "thresholds", "value": _thresholds((steps or {})[heading])},
                {"id": "color", "value": {"mode": "thresholds"}},
                {"id": "custom.cellOptions", "value": cell},
            ]
        matcher = {"id": "byName", "options": heading}
        made["fieldConfig"]["overrides"].append({"matcher": matcher, "properties": properties})
    values = {f"Value #{_ref(place)}": column[0] for place, column in enumerate(columns)}
    if len(columns) == 1:
        values = {"Value": columns[0][0]}
    names = {**by, **values}
    order = {name: place for place, name in enumerate(names)}
    organize = {"excludeByName": {"Time": True}, "indexByName": order, "renameByName": names}
    made["transformations"] = [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": organize},
    ]
    made["options"] = {
        "cellHeight": "sm",
        "frameIndex": 0,
        "showHeader": True,
        "sortBy": [{"displayName": sort, "desc": True}],
    }
    return made


def heatmap(title: str, text: str, expr: str, unit: str, *, none: str) -> Json:
    """A histogram over time."""
    made = _panel(
        "heatmap", title, text, [query(expr, "{{le}}", form="heatmap")], unit, PLAIN, none
    )
    color = {"mode": "scheme", "scheme": "Oranges", "fill": "dark-orange", "exponent": 0.5}
    made["options"] = {
        "calculate": False,
        "cellGap": 1,
        "color": {**color, "steps": 64, "reverse": False},
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "showValue": "never",
        "tooltip": {"mode": "single", "yHistogram": False},
        "yAxis": {"axisPlacement": "left", "reverse": False, "unit": unit},
    }
    return made


def timeline(title: str, text: str, expr: str, legend: str, names: Json, *, none: str) -> Json:
    """States over time; `names` has (text, colour) by value."""
    made = _panel("state-timeline", title, text, [query(expr, legend)], "short", PLAIN, none)
    results = {
        value: {"text": words, "color": colour, "index": place}
        for place, (value, (words, colour)) in enumerate(names.items())
    }
    defaults = made["fieldConfig"]["defaults"]
    defaults["mappings"] = [{"type": "value", "options": results}]
    defaults["custom"] = {"fillOpacity": 80, "lineWidth": 0, "spanNulls": False}
    made["options"] = {
        "alignValue": "left",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []},
        "mergeValues": True,
        "rowHeight": 0.9,
        "showValue": "never",
        "tooltip": {"mode": "single", "sort": "none"},
    }
    return made


def _panel(
    kind: str,
    title: str,
    text: str,
    queries: Sequence[Json],
    unit: str,
    steps: Steps,
    none: str,
) -> Json:
    targets = [
        {"refId": _ref(place), "datasource": DATASOURCE, **made}
        for place, made in enumerate(queries)
    ]
    defaults: Json = {
        "unit": unit,
        "color": {"mode": "thresholds"},
        "mappings": [],
        "noValue": none,
        "thresholds": _thresholds(steps),
    }
    fields: Json = {"defaults": defaults, "overrides": []}
    made = {"type": kind, "title": title, "description": text, "datasource": DATASOURCE}
    return {**made, "targets": targets, "fieldConfig": fields}


def _coloured(name: str) -> Json:
    color = {"mode": "fixed", "fixedColor": COLOURS[name]}
    matcher = {"id": "byName", "options": name}
    return {"matcher": matcher, "properties": [{"id": "color", "value": color}]}


def _thresholds(steps: Steps) -> Json:
    made = [{"value": value, "color": colour} for value, colour in steps]
    return {"mode": "absolute", "steps": made}


def _ref(place: int) -> str:
    return chr(ord("A") + place)
