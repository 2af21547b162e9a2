"""A real Prometheus before a gateway, with the project's rules, and what it answers."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tests.valkey import free_ports, wait_for

BINARY: Final = shutil.which("prometheus")
PROMTOOL: Final = shutil.which("promtool")
MISSING: Final = (
    "NOT RUN: dashboards, rules and alerts on a real Prometheus; there is none "
    "(apt install prometheus)"
)

RULES: Final = Path(__file__).parents[2] / "grafana" / "rules"

#: How often the gateway is scraped, and rules are evaluated; and how long a scrape may take.
EVERY: Final = "1s"


@dataclass(frozen=True)
class Prometheus:
    url: str

    def get(self, path: str, **words: Any) -> Any:
        """The data of an answer. Raises AssertionError with what is wrong with the question."""
        asked = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(words, doseq=True)}"
        try:
            with urllib.request.urlopen(asked, timeout=20) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{error.read().decode()}\n{words}") from None

    def at(self, expr: str, moment: float | None = None) -> list[tuple[dict[str, str], float]]:
        """The samples of an instant query."""
        data = self.get("query", query=expr, **({} if moment is None else {"time": moment}))
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(each["metric"], float(each["value"][1])) for each in data["result"]]

    def value(self, expr: str, moment: float | None = None) -> float:
        """The one sample; 0 where there is none."""
        found = self.at(expr, moment)
        assert len(found) < 2, found
        return found[0][1] if found else 0.0

    def over(self, expr: str, start: float, end: float, step: float) -> list[float]:
        """All values of a range query."""
        data = self.get("query_range", query=expr, start=start, end=end, step=step)
        return [float(value) for each in data["result"] for _, value in each["values"]]


@contextlib.contextmanager
def run_prometheus(admin: int) -> Iterator[Prometheus]:
    """One that scrapes the gateway whose operators' listener is at that port; gone at the end."""
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="vg-prometheus-") as name:
        folder = Path(name)
        for file in RULES.glob("*.yaml"):
            (folder / file.name).write_text(_quick(file.read_text()))
        config = {
            "global": {"scrape_interval": EVERY, "evaluation_interval": EVERY},
            "rule_files": [f"{folder}/*.yaml"],
            "scrape_configs": [
                {
                    "job_name": "visiongate",
                    "static_configs": [{"targets": [f"127.0.0.1:{admin}"]}],
                }
            ],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        words = [
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [str(BINARY), *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            url = f"http://127.0.0.1:{port}"
            with contextlib.suppress(TimeoutError):
                wait_for(lambda: process.poll() is not None or _ready(url), 20)
            if not _ready(url):
                raise RuntimeError(f"Prometheus did not start:\n{(folder / 'log').read_text()}")
            yield Prometheus(url)
        finally:
            process.kill()
            process.wait()


def _quick(rules: str) -> str:
    """The rules, evaluated as often as a test needs."""
    groups = yaml.safe_load(rules)["groups"]
    return yaml.safe_dump({"groups": [{**group, "interval": EVERY} for group in groups]})


def _ready(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/-/ready", timeout=1):
        return True
    return False


def seen(prometheus: Prometheus, expr: str, value: float) -> None:
    """Wait until it is so much."""
    found = float("nan")

    def reached() -> bool:
        nonlocal found
        found = prometheus.value(expr)
        return found == value

    try:
        wait_for(reached, 20)
    except TimeoutError:
        raise AssertionError(f"{expr}: {found}, not {value}, after 20 s") from None
