"""Every query of the dashboards and rules, asked of a real Prometheus behind a real gateway."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from typing import Any, Final

import pytest

from grafana.source.queries import Queries
from tests.grafana.boards import BOARDS, Query, filled, panels, queries
from tests.grafana.prometheus import RULES
from tests.grafana.stand import Stand

DAY: Final = 86_400

#: The parts of a row of the ledger, and the counters that must have the same sum.
PARTS: Final = {
    "input_tokens": 'visiongate_tokens_total{kind="input"}',
    "output_tokens": 'visiongate_tokens_total{kind="output"}',
    "cached_tokens": "visiongate_cached_tokens_total",
    "image_tokens": "visiongate_image_tokens_total",
    "usd": "visiongate_cost_usd_total",
}

Sums = dict[tuple[str, ...], float]


@pytest.mark.parametrize("query", [pytest.param(each, id=each.id) for each in queries()])
def test_a_query_finds_something(stand: Stand, query: Query) -> None:
    """Each query of each panel has an answer that is a number, of a gateway that did a little of
    everything.
    """
    assert [value for value in values(stand, query) if math.isfinite(value)]


@pytest.mark.parametrize(
    "query", [pytest.param(each, id=each.id) for each in queries() if each.instant]
)
def test_what_is_named_has_its_label(stand: Stand, query: Query) -> None:
    """A table's columns are just the labels that its rows have, and a legend names only such."""
    found = stand.prometheus.at(filled(query.expr, stand.seconds), stand.moment)
    labels = {name for each, _ in found for name in each}
    if query.panel["type"] == "table":
        organize = query.panel["transformations"][-1]["options"]
        columns = {name for name in organize["renameByName"] if not name.startswith("Value")}
        assert labels == columns
    else:
        assert set(re.findall(r"{{(\w+)}}", query.legend)) <= labels


def values(stand: Stand, query: Query) -> list[float]:
    expr = filled(query.expr, stand.seconds)
    if query.instant:
        return [value for _, value in stand.prometheus.at(expr, stand.moment)]
    if query.panel.get("interval") == "1d":  # a point for each midnight, as Grafana asks
        midnight = stand.moment // DAY * DAY
        return stand.prometheus.over(expr, midnight - 2 * DAY, midnight, DAY)
    return stand.prometheus.over(expr, stand.moment - 5, stand.moment, 1)


@pytest.mark.parametrize("name", BOARDS)
def test_a_variable_has_values(stand: Stand, name: str) -> None:
    """Each variable offers what there is to choose, and none is the empty word."""
    offered = {}
    for variable in BOARDS[name]["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"])
            assert match, variable["query"]
            found = stand.prometheus.get(
                f"label/{match[2]}/values", **{"match[]": filled(match[1], 60)}
            )
            keep = variable["regex"].strip("/")
            offered[variable["name"]] = {value for value in found if re.search(keep, value)}
    wanted = {
        "job": {"visiongate"},
        "team": {"vision", "search", "tight"},
        "model": {"gpt-4o", "gpt-4o-mini", "gpt-4-vision-preview"},
        "provider": {"openai", "backup"},
    }
    assert offered == {variable: wanted[variable] for variable in offered}


def test_what_is_chosen_narrows(stand: Stand) -> None:
    """With a team chosen, the figures are its own alone."""
    query = next(each for each in queries() if each.id == "usage: USD today A")
    found = {
        team: stand.prometheus.value(filled(query.expr, stand.seconds, team=team), stand.moment)
        for team in ("vision", "search", "vision|search", ".*")
    }
    assert found["vision"] > 0 < found["search"]
    assert found["vision|search"] == found[".*"] == pytest.approx(found["vision"] + found["search"])


def test_annotations_find_the_start(stand: Stand) -> None:
    """The marks of gateways that began are where this one did."""
    for board in BOARDS.values():
        for mark in board["annotations"]["list"]:
            ((_, moment),) = stand.prometheus.at(filled(mark["expr"], 60), stand.moment)
            assert stand.start * 1000 < moment < stand.moment * 1000


def test_rules_are_well(stand: Stand) -> None:
    """Prometheus finds no fault with any rule, and each recorded series has values."""
    found = [rule for group in stand.prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in found} == {"ok"}
    recorded = [rule["name"] for rule in found if rule["type"] == "recording"]
    assert len(recorded) == sum(file.read_text().count("record: ") for file in RULES.glob("*.yaml"))
    for name in recorded:
        assert stand.prometheus.at(name, stand.moment), name


def test_alerts_read_what_there_is(stand: Stand) -> None:
    """Each alert without its threshold finds series: what it waits for can come."""
    bare = re.compile(r"\s(==|!=|>=|<=|>|<) [\d.]+")
    found = [rule for group in stand.prometheus.get("rules")["groups"] for rule in group["rules"]]
    for rule in found:
        if rule["type"] == "alerting":
            assert stand.prometheus.at(bare.sub(" ", rule["query"]), stand.moment), rule["name"]


def test_counters_are_the_ledger(stand: Stand) -> None:
    """What Prometheus has of tokens and USD, by team, key and model, is what the ledger has."""
    by = ("team", "key", "model")
    for part, metric in PARTS.items():
        found = sums(stand, f"sum by ({', '.join(by)}) ({metric})")
        assert found == pytest.approx(ledger(stand, part, *by), rel=1e-12), part


@pytest.mark.parametrize(
    ("by", "recorded"), [(("team", "key"), False), (("team",), True), ((), True)]
)
def test_what_usage_shows_is_the_ledger(stand: Stand, by: tuple[str, ...], recorded: bool) -> None:
    """The sums that the Usage dashboard shows for a time are the ledger's, to the last token; no
    first value of a series is lost, and nothing is extrapolated.
    """
    for metric, parts in (
        ("tokens_total", ("input_tokens", "output_tokens")),
        ("cost_usd_total", ("usd",)),
    ):
        for days in (False, True):
            expr = Queries("team").counted(metric, by=", ".join(by), recorded=recorded, days=days)
            moment = stand.moment // DAY * DAY if days else stand.moment
            found = sums(stand, filled(expr, stand.seconds), moment)
            wanted: Sums = defaultdict(float)
            for part in parts:
                for whose, value in ledger(stand, part, *by).items():
                    wanted[whose] += value
            assert found == pytest.approx(wanted, rel=1e-9), (metric, days)


def test_requests_today_are_the_ledger(stand: Stand) -> None:
    """Those count that the ledger has: one that was refused for want of a key does not."""
    query = next(each for each in queries() if each.id == "usage: Requests today A")
    shown = stand.prometheus.value(filled(query.expr, stand.seconds), stand.moment)
    assert shown == sum(ledger(stand, "requests", "team").values())
    assert shown < stand.prometheus.value("sum(visiongate_requests_total)", stand.moment)


def test_limits_are_the_ledger(stand: Stand) -> None:
    """What the Limits table shows as used is what the ledger has of the team."""
    table = next(each for each in panels(BOARDS["usage"]) if each["title"] == "Limits")
    used = filled(table["targets"][1]["expr"], stand.seconds)
    found = {
        (labels["team"], labels["unit"], labels["window"]): value
        for labels, value in stand.prometheus.at(used, stand.moment)
    }
    tokens = ledger(stand, "input_tokens", "team")["vision",]
    tokens += ledger(stand, "output_tokens", "team")["vision",]
    assert found["vision", "tokens", "day"] == tokens
    assert found["vision", "usd", "month"] == pytest.approx(ledger(stand, "usd", "team")["vision",])
    assert found["tight", "tokens", "day"] == 0


def sums(stand: Stand, expr: str, moment: float | None = None) -> Sums:
    """The samples by the labels that they have, in this order; what is 0 is left out."""
    found: Any = stand.prometheus.at(expr, stand.moment if moment is None else moment)
    order = ("team", "key", "model")
    return {
        tuple(labels[name] for name in order if name in labels): value
        for labels, value in found
        if value
    }


def ledger(stand: Stand, part: str, *by: str) -> Sums:
    """The ledger's sums of a part."""
    made: Sums = defaultdict(float)
    for row in stand.rows:
        made[tuple(row[name] for name in by)] += row[part]
    return {whose: value for whose, value in made.items() if value}
