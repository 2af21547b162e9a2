"""The dashboards as files: what they are made of, how they look, and what Grafana asks of them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from jsonschema import Draft7Validator

from grafana.source.layout import as_text
from grafana.source.queries import LABELS
from grafana.source.table import DASHBOARDS
from tests.grafana.boards import BOARDS, FOLDER, panels, queries
from tests.web.test_metrics import CONTRACT

SCHEMA: Final = Path(__file__).parent / "schema"
NAMES: Final = re.compile(r"\bvisiongate_(\w+)\b")
SUFFIX: Final = re.compile(r"_(total|bucket|sum|count)$")

each_board = pytest.mark.parametrize("name", BOARDS)


def test_what_is_committed_is_what_is_built() -> None:
    """The files are what `python -m grafana.source` writes, and there is no other."""
    built = {name: as_text(made()) for name, made in DASHBOARDS.items()}
    assert {f.stem: f.read_text() for f in FOLDER.glob("dashboards/*")} == built


def load(name: str) -> Any:
    """A published schema. What may be anything is "object" in it, by a slip of what writes it:
    strings and numbers are allowed in these places, as they are in Grafana.
    """
    return _lax(json.loads((SCHEMA / f"{name}.jsonschema.json").read_text()))


def _lax(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_lax(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "object" and schema.get("additionalProperties") == {}:
        return {}
    return {key: _lax(value) for key, value in schema.items()}


def faults(schema: Any, value: Any) -> Iterator[str]:
    for error in Draft7Validator(schema).iter_errors(value):
        for inner in error.context or [error]:
            yield f"{list(inner.absolute_path)}: {inner.message[:200]}"


@each_board
def test_the_schema_is_grafanas(name: str) -> None:
    """A dashboard is one by Grafana's published schema, and so is each query of it."""
    assert not list(faults(load("dashboard"), BOARDS[name]))
    query = load("prometheus")
    for panel in panels(BOARDS[name]):
        for target in panel["targets"]:
            assert not list(faults(query, target)), panel["title"]


@each_board
def test_the_options_are_each_panels(name: str) -> None:
    """A panel's options, and its fields' own, are those of its kind."""
    for panel in panels(BOARDS[name]):
        definitions = load(panel["type"].replace("-", ""))["definitions"]
        custom = panel["fieldConfig"]["defaults"].get("custom", {})
        for kind, value in (("Options", panel["options"]), ("FieldConfig", custom)):
            if kind not in definitions:
                assert not value
                continue
            schema = {"$ref": f"#/definitions/{kind}", "definitions": definitions}
            assert not list(faults(schema, value)), panel["title"]


@each_board
def test_panels_fill_the_width_and_do_not_overlap(name: str) -> None:
    """No two panels share a place; each line of them is 24 wide, and none is missing."""
    places = [panel["gridPos"] for panel in BOARDS[name]["panels"]]
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)
    heights = {place["y"]: place["h"] for place in places}
    widths = Counter[int]()
    for place in places:
        widths[place["y"]] += place["w"]
        assert place["h"] == heights[place["y"]]
    assert set(widths.values()) == {24}
    top = 0
    for y in sorted(heights):
        assert y == top
        top += heights[y]


@each_board
def test_panels_speak(name: str) -> None:
    """Each panel has a title of its own, a text that explains it, a unit, and words for when it is
    empty; each of several lines has its own name.
    """
    titles = [panel["title"] for panel in panels(BOARDS[name])]
    assert len(titles) == len(set(titles))
    for panel in panels(BOARDS[name]):
        defaults = panel["fieldConfig"]["defaults"]
        assert len(panel["description"]) > 8, panel["title"]
        assert defaults["unit"], panel["title"]
        assert defaults["noValue"], panel["title"]
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert panel["type"] == "table" or len(set(legends)) == len(legends), panel["title"]


@each_board
def test_dashboards_lead_to_each_other(name: str) -> None:
    """Each has the tag that all link to, and takes along what is chosen and the time."""
    board = BOARDS[name]
    assert (board["uid"], board["tags"]) == (f"visiongate-{name}", ["visiongate"])
    (link,) = board["links"]
    assert (link["type"], link["tags"]) == ("dashboards", ["visiongate"])
    assert link["includeVars"]
    assert link["keepTime"]


@each_board
def test_each_variable_is_used(name: str) -> None:
    """A choice that is offered changes something; what is used is offered."""
    board = BOARDS[name]
    offered = {variable["name"] for variable in board["templating"]["list"]}
    text = json.dumps(board["panels"])
    used = set(re.findall(r"\$\{?([a-z]\w*)", text))
    assert used == offered


@each_board
def test_each_filter_fits(name: str) -> None:
    """Each series is filtered by every variable of the dashboard that it has as a label; in a
    ratio, by those that all of its series have.
    """
    offered = {variable["name"] for variable in BOARDS[name]["templating"]["list"]}
    for panel in panels(BOARDS[name]):
        for target in panel["targets"]:
            expr = target["expr"]
            found = re.findall(r"visiongate_(\w+)(?::sum)?\{(.*?)\}", expr)
            labels = [{*labels_of(metric), "job"} & offered for metric, _ in found]
            for (metric, filters), wanted in zip(found, labels, strict=True):
                known = set.intersection(*labels) if " / " in expr else wanted
                assert set(re.findall(r'(\w+)=~"\$', filters)) == known, (panel["title"], metric)


def labels_of(metric: str) -> tuple[str, ...]:
    return CONTRACT[metric if metric in CONTRACT else SUFFIX.sub("", metric)]


def named(text: str) -> set[str]:
    """The metrics that PromQL names, as the contract does."""
    return {n if n in CONTRACT else SUFFIX.sub("", n) for n in NAMES.findall(text)}


def test_every_metric_is_on_a_dashboard() -> None:
    """Each metric of the contract is shown, and none is that is not there."""
    shown = named("\n".join(query.expr for query in queries()))
    assert shown == CONTRACT.keys() == LABELS.keys()


def test_what_is_provisioned() -> None:
    """Grafana is told where Prometheus and the dashboards are, in files that it reads."""
    where = FOLDER / "provisioning"
    source: Mapping[str, Any] = yaml.safe_load((where / "datasources/prometheus.yaml").read_text())
    (prometheus,) = source["datasources"]
    assert (source["apiVersion"], prometheus["type"]) == (1, "prometheus")
    provided = yaml.safe_load((where / "dashboards/visiongate.yaml").read_text())
    (provider,) = provided["providers"]
    assert (provided["apiVersion"], provider["type"]) == (1, "file")
    assert Path(provider["options"]["path"]).is_absolute()
