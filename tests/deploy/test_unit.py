"""The systemd unit, by systemd's own checks."""

from __future__ import annotations

import re
from pathlib import Path

from proxy.config import load_config
from tests.deploy.files import CONFIG, DEPLOY, ENV, run, tool

UNIT = DEPLOY / "systemd" / "visiongate.service"


def test_verify(tmp_path: Path) -> None:
    """systemd has no complaint, but that the program is not installed here."""
    analyze = tool("systemd-analyze", "apt install systemd")
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/visiongate/bin/visiongate", "/bin/true"))
    assert run(analyze, "verify", "--man=no", copy) == ""


def test_user(tmp_path: Path) -> None:
    """systemd makes the user that the unit names, without a password or a shell."""
    sysusers = tool("systemd-sysusers", "apt install systemd")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").touch()
    run(sysusers, f"--root={tmp_path}", UNIT.with_suffix(".sysusers"))
    (name, *_, home, shell) = (tmp_path / "etc" / "passwd").read_text().strip().split(":")
    assert f"\nUser={name}\nGroup={name}\n" in UNIT.read_text()
    assert (home, shell) == ("/var/lib/visiongate", "/usr/sbin/nologin")
    assert (tmp_path / "etc" / "shadow").read_text().startswith(f"{name}:!*:")


def test_security() -> None:
    """It is exposed to less than 1.5 of 10, by systemd's own measure."""
    analyze = tool("systemd-analyze", "apt install systemd")
    told = run(analyze, "security", "--offline=true", "--no-pager", UNIT)
    (level,) = re.findall(r"Overall exposure level for visiongate.service: ([0-9.]+)", told)
    assert float(level) < 1.5


def test_time_to_drain() -> None:
    """It is not killed before its drain is over and all settled, and the master alone is told to
    stop.
    """
    text = UNIT.read_text()
    (seconds,) = re.findall(r"(?m)^TimeoutStopSec=(\d+)$", text)
    assert int(seconds) >= load_config(CONFIG, ENV).server.drain + 20
    assert "\nKillMode=mixed\n" in text
    assert "\nRestartPreventExitStatus=2\n" in text
