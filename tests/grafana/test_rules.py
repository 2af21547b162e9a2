"""Recording and alert rules, by promtool; and what the dashboards' sums make of hard cases."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import yaml

from grafana.source.queries import RECORDED, Queries
from tests.grafana.boards import filled, queries
from tests.grafana.prometheus import MISSING, PROMTOOL, RULES
from tests.grafana.test_boards import named
from tests.web.test_metrics import CONTRACT

FILES: Final = sorted(RULES.glob("*.yaml"))
TESTS: Final = sorted(RULES.glob("tests/*.yaml"))
RECORDED_NAME: Final = re.compile(r"\w+:visiongate_\w+:\w+")

_GROUPS: Final = [g for file in FILES for g in yaml.safe_load(file.read_text())["groups"]]
ALL: Final = [rule for group in _GROUPS for rule in group["rules"]]
ALERTS: Final = {rule["alert"]: rule for rule in ALL if "alert" in rule}

needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason=MISSING)


def promtool(*words: str | Path) -> None:
    """Raises AssertionError with what it says where it finds a fault."""
    ran = subprocess.run([str(PROMTOOL), *words], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@needs_promtool
def test_rules_are_sound() -> None:
    """promtool finds no fault with a rule, nor two alike."""
    promtool("check", "rules", *FILES)


@needs_promtool
@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_rules_do_what_they_say(file: Path) -> None:
    """Each series is recorded as it should be; each alert comes where it should, and not else."""
    promtool("test", "rules", file)


def test_every_alert_is_tested() -> None:
    """promtool's tests have a case in which it comes."""
    cases = [case for file in TESTS for case in yaml.safe_load(file.read_text())["tests"]]
    coming = {
        test["alertname"]
        for case in cases
        for test in case.get("alert_rule_test", [])
        if test["exp_alerts"]
    } | {
        name
        for case in cases
        for test in case.get("promql_expr_test", [])
        if test["exp_samples"]
        for name in re.findall(r'alertname="(\w+)"', test["expr"])
    }
    assert coming == ALERTS.keys()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_to_do(name: str) -> None:
    """Each has a severity, a summary, a description, and its place in the runbook: the heading of
    its name, as GitHub and GitLab link it.
    """
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in {"page", "ticket"}
    notes = alert["annotations"]
    assert notes.keys() == {"summary", "description", "runbook_url"}
    assert notes["runbook_url"] == f"deploy/RUNBOOK.md#{name.lower()}"


def test_the_recorded_names_are_the_dashboards() -> None:
    """What the dashboards read of recorded sums is recorded as they expect."""
    found = {rule["record"]: rule["expr"] for rule in ALL if "record" in rule}
    assert {name: found.get(name) for name in RECORDED} == RECORDED


def test_rules_name_what_there_is() -> None:
    """Each metric of a rule is one of the contract's."""
    for rule in ALL:
        assert named(RECORDED_NAME.sub("", rule["expr"])) <= CONTRACT.keys(), rule


def test_recorded_series_are_there() -> None:
    """What queries and alerts read under a recorded name is recorded."""
    text = "\n".join([*(query.expr for query in queries()), *(rule["expr"] for rule in ALL)])
    read = set(RECORDED_NAME.findall(text))
    assert read <= {rule["record"] for rule in ALL if "record" in rule}


@needs_promtool
def test_the_configuration_is_one() -> None:
    """What README starts Prometheus with is accepted by it, and finds every rule."""
    config = RULES.parent / "prometheus.yaml"
    promtool("check", "config", config)
    found = yaml.safe_load(config.read_text())["rule_files"]
    assert sorted(file for each in found for file in RULES.parent.glob(each)) == FILES


def test_the_runbook_has_every_alert() -> None:
    """Under a heading of its name."""
    runbook = RULES.parents[1] / "deploy" / "RUNBOOK.md"
    headings = re.findall(r"^### (Visiongate\w+)$", runbook.read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(ALERTS)


class Case(NamedTuple):
    """A counter's and its gateway's start's samples, a minute each, and what was counted from the
    tenth minute to the twentieth, so much more or less.
    """

    name: str
    counter: str
    since: str
    counted: float
    tolerance: float = 0


CASES: Final = (
    Case("all along", "100x10 110 120x9", "-1000x20", 20),
    Case("nothing happened", "100x20", "-1000x20", 0),
    Case("a new series of an old gateway", "_x12 7 7 9x6", "-1000x20", 9),
    Case("a new gateway", "_x13 5 8x6", "_x13 700x7", 8),
    Case("a gateway that is gone", "10x12 40x2 stale", "-1000x14 stale", 30),
    Case("a new one that is gone again", "_x12 40 41 stale", "_x12 650 650 stale", 41),
    Case("a restart", "100x10 110 120 2 30x6", "-1000x12 750x7", 50, 6),
    Case("a gap at the beginning", "_x13 5000 5010 5020x5", "_x13 -1000x7", 20, 6),
)


@needs_promtool
@pytest.mark.parametrize("days", [False, True], ids=["range", "days"])
def test_sums_of_hard_cases(tmp_path: Path, days: bool) -> None:
    """Where gateways and series come and go, what was counted in a time is exact; where one was
    restarted, or Prometheus was away when the time began, it is estimated.
    """
    expr = filled(Queries().counted("rejections_total", by="job", days=days), 600)
    if days:  # ten minutes long, of which the point is the beginning
        expr = f"max_over_time(({expr.replace('1d', '10m')})[1s:1s] offset 10m)"
    promtool("test", "rules", _written(tmp_path, expr))


def _written(folder: Path, expr: str) -> Path:
    """promtool's test of all cases."""
    tests: list[dict[str, Any]] = []
    for case in CASES:
        labels = '{job="g",instance="a"}'
        wanted = f"abs(({expr}) - {case.counted}) <= bool {case.tolerance}"
        expected = [{"labels": '{job="g"}', "value": 1}]
        tests.append(
            {
                "name": case.name,
                "interval": "1m",
                "input_series": [
                    {"series": f"visiongate_rejections_total{labels}", "values": case.counter},
                    {"series": f"visiongate_start_time_seconds{labels}", "values": case.since},
                ],
                "promql_expr_test": [{"expr": wanted, "eval_time": "20m", "exp_samples": expected}],
            }
        )
    file = folder / "cases.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [], "evaluation_interval": "1m", "tests": tests}))
    return file
