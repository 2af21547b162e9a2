"""The commands of deploy/README.md that can be run anywhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proxy.config import ConfigError, load_config
from tests.deploy.files import CONFIG, DEPLOY, ROOT, run
from tests.web.test_nginx import block

FLAGS = re.DOTALL | re.MULTILINE


def command(begin: str) -> str:
    """The one command that begins so, its lines put together."""
    text = re.sub(r" \\\n +", " ", (DEPLOY / "README.md").read_text())
    (found,) = re.findall(rf"(?m)^{re.escape(begin)}.*$", text)
    return found


def test_nginx() -> None:
    """What it takes out of the page is the configuration that is tested."""
    words = command("sed -n").partition(" > ")[0]
    found = run("sh", "-c", words, cwd=ROOT)
    found = found.replace("127.0.0.1:8080", "127.0.0.1:1").replace(
        "listen 80;", "listen 127.0.0.1:2;"
    )
    assert found == block(2, "http://127.0.0.1:1")


def test_the_units_configuration(tmp_path: Path) -> None:
    """With what it puts into the configuration, no secret comes from the environment."""
    copy = tmp_path / "visiongate.yaml"
    copy.write_text(CONFIG.read_text())
    run("sh", "-c", command("sed -i").replace("/etc/visiongate/visiongate.yaml", str(copy)))
    text = copy.read_text()
    unit = (DEPLOY / "systemd" / "visiongate.service").read_text()
    files = re.findall(r"\$\{file:/run/credentials/visiongate.service/(\w+)\}", text)
    assert sorted(files) == sorted(re.findall(r"(?m)^LoadCredential=(\w+):", unit))
    assert "host: 127.0.0.1" in text
    assert set(re.findall(r"\$\{([A-Z_]+)", text)) == {"REDIS_URL", "OPENAI_BASE_URL"}


def test_the_units_folders(tmp_path: Path) -> None:
    """Each file goes into a folder that the page makes, or that is systemd's own."""
    (tmp_path / "systemd/system").mkdir(parents=True)
    readme = (DEPLOY / "README.md").read_text()
    lines = re.findall(r"(?m)^install -.*$", readme)
    assert len(lines) == 5
    for line in lines:
        run("sh", "-c", line.replace("/etc/", f"{tmp_path}/"), cwd=ROOT)
    assert (tmp_path / "sysusers.d/visiongate.conf").is_file()


def test_no_other_store(tmp_path: Path) -> None:
    """A terminal in which the unit's environment was not read acts on no store at all."""
    copy = tmp_path / "visiongate.yaml"
    copy.write_text(CONFIG.read_text())
    run("sh", "-c", command("sed -i").replace("/etc/visiongate/visiongate.yaml", str(copy)))
    for name in ("pepper", "openai"):
        (tmp_path / name).write_text("p" * 16)
    copy.write_text(copy.read_text().replace("/run/credentials/visiongate.service", str(tmp_path)))
    with pytest.raises(ConfigError, match="REDIS_URL is not set"):
        load_config(copy, {})
    readme = (DEPLOY / "README.md").read_text()
    (lines,) = re.findall(r"> /etc/visiongate/environment <<'END'.*?\n(.*?)^END$", readme, FLAGS)
    script = f"set -a; {lines.replace(chr(10), ';')} env"
    read = dict(line.split("=", 1) for line in run("sh", "-c", script, env={}).splitlines())
    assert not load_config(copy, read).store.embedded
