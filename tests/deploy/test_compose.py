"""The compose file: by the specification's rules, and by what its services make of it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import compose_spec
import pytest
import redis

from proxy.config import load_config
from proxy.demo.upstream import DEMO_KEY, make_demo_upstream
from tests.deploy.files import CONFIG, DEPLOY, ENV, read, run, tool
from tests.gateway import merged
from tests.valkey import run_valkey

FILE = DEPLOY / "compose.yaml"
DEMO = DEPLOY / "compose" / "demo.yaml"
SERVICES: dict[str, Any] = read(FILE)["services"]
TRIED: dict[str, Any] = read(DEMO)["services"]


@pytest.mark.parametrize("demo", [False, True], ids=["real", "demo"])
def test_the_specification(demo: bool) -> None:
    """It is a compose file by the specification, to the last key, also with the demo's over it."""
    file = merged(read(FILE), read(DEMO)) if demo else read(FILE)
    parsed = compose_spec.PyCompose.from_json(json.dumps(file))
    parsed.validate()
    assert set(parsed.service_names()) == file["services"].keys()


@pytest.mark.parametrize("name", {**SERVICES, "upstream": ...})
def test_hardened(name: str) -> None:
    """No service may write to its image, has a capability or can gain one."""
    service = SERVICES.get(name) or TRIED[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_what_must_be_set() -> None:
    """Each variable that compose or the gateway insists on is in the example of .env, where none
    has a value.
    """
    wanted = set(re.findall(r"\$\{(\w+):\?", FILE.read_text()))
    example = (DEPLOY / "compose" / "example.env").read_text()
    assert {*wanted, "OPENAI_API_KEY"} == set(re.findall(r"(?m)^(\w+)=$", example))
    assert not re.search(r"(?m)^\w+=.", example)


def test_the_readmes_environment(tmp_path: Path) -> None:
    """What README writes into .env is all that compose insists on, each a secret of its own."""
    tool("openssl", "apt install openssl")
    readme = (DEPLOY.parent / "README.md").read_text()
    (lines,) = re.findall(r"(?ms)^for name in .*?^done > deploy/.env$", readme)
    (tmp_path / "deploy").mkdir()
    run("sh", "-c", lines, cwd=tmp_path)
    words = [x.split("=", 1) for x in (tmp_path / "deploy/.env").read_text().splitlines()]
    assert {name for name, _ in words} == set(re.findall(r"\$\{(\w+):\?", FILE.read_text()))
    assert all(len(value) == 48 for _, value in words)
    assert len({value for _, value in words}) == len(words)


def test_what_is_mounted() -> None:
    """What services have from beside the file is there, and read-only."""
    mounts = [m for service in SERVICES.values() for m in service.get("volumes", ())]
    beside = [m for m in mounts if m.startswith(".")]
    assert len(beside) == 4
    assert all(m.endswith(":ro") for m in beside)
    assert all((DEPLOY / m.split(":")[0]).exists() for m in beside)


def test_where_grafana_looks() -> None:
    """The dashboards are where their provisioning says, and Prometheus too."""
    provisioning = DEPLOY.parent / "grafana" / "provisioning"
    (boards,) = read(provisioning / "dashboards" / "visiongate.yaml")["providers"]
    mounts = [m.split(":")[:2] for m in SERVICES["grafana"]["volumes"]]
    assert ["../grafana/dashboards", boards["options"]["path"]] in mounts
    assert ["../grafana/provisioning", "/etc/grafana/provisioning"] in mounts
    (source,) = read(provisioning / "datasources" / "prometheus.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in SERVICES


def test_only_the_gateway_is_public() -> None:
    """No port but the gateway's is bound to other addresses than this machine's own."""
    ports = {name: service.get("ports", []) for name, service in SERVICES.items()}
    assert ports.pop("visiongate") == ["8080:8080"]
    assert all(port.startswith("127.0.0.1:") for some in ports.values() for port in some)
    scrape = read(DEPLOY / "compose" / "prometheus.yaml")["scrape_configs"][0]
    assert scrape["static_configs"] == [{"targets": [f"visiongate:{config().admin.port}"]}]


def config() -> Any:
    return load_config(CONFIG, ENV)


def test_time_to_drain() -> None:
    """The gateway is not killed before its drain is over and all settled."""
    grace = SERVICES["visiongate"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) >= config().server.drain + 20


def test_no_key_goes_to_the_demo() -> None:
    """Whatever is set, the demo's upstream gets the key that it takes, and without it there is no
    such upstream.
    """
    given = TRIED["visiongate"]["environment"]
    assert given == {"OPENAI_API_KEY": DEMO_KEY, "OPENAI_BASE_URL": "http://upstream:8000/v1"}
    assert given.keys() <= SERVICES["visiongate"]["environment"].keys()
    assert "upstream" not in SERVICES
    assert "${" not in DEMO.read_text()
    *_, program = TRIED["upstream"]["entrypoint"]
    compile(program, "entrypoint", "exec")
    assert f"import {make_demo_upstream.__name__}" in program
    assert "port=8000" in program


def test_the_store(tmp_path: Path) -> None:
    """By its command line a real Valkey has an append-only file and evicts nothing; it is told a
    password.
    """
    shell = SERVICES["valkey"]["command"][-1].replace("/data", str(tmp_path))
    _, program, *options = shlex.split(shell)
    assert program == "valkey-server"
    assert [options.pop(), options.pop()] == ["$$STORE_PASSWORD", "--requirepass"]
    wanted = {"appendonly": "yes", "maxmemory-policy": "noeviction", "appendfsync": "everysec"}
    with run_valkey(tmp_path, *options) as url, redis.Redis.from_url(url) as client:
        assert {name: client.config_get(name)[name] for name in wanted} == wanted
