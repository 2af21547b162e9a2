"""The demo command: what it stands in front of, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from proxy.demo.command import Demo, _banner, _upstream


async def test_openai_where_there_is_a_key_for_it() -> None:
    """With a provider's key the demo forwards to OpenAI, and writes no key into its config."""
    async with _upstream({"OPENAI_API_KEY": "sk-test"}) as (provider, base_url, key):
        assert (provider, base_url) == ("openai", "https://api.openai.com/v1")
        assert key == "${OPENAI_API_KEY}"


@pytest.mark.parametrize("env", [{}, {"OPENAI_API_KEY": ""}, {"OPENAI_API_KEY": "vg_own"}])
async def test_its_own_upstream_otherwise(env: dict[str, str]) -> None:
    """Without one, or with a key of the gateway's own, it stands in front of itself."""
    async with _upstream(env) as (provider, base_url, _):
        assert provider == "demo"
        assert base_url.startswith("http://127.0.0.1:")


def test_its_command_can_be_pasted_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the banner says of usage begins with a whole path, however the demo was called."""
    monkeypatch.setattr(sys, "argv", [".venv/bin/visiongate", "demo"])
    text = _banner(Demo(*([""] * 8)))
    assert f"  {Path.cwd()}/.venv/bin/visiongate -c" in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_leaves_nothing(number: signal.Signals) -> None:
    """However it is told to stop, its store stops and its files go."""
    command = (sys.executable, "-m", "proxy", "demo", "--port", "0", "--json")
    # Not pytest's own folder: a socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="vg-") as folder:
        env = {**os.environ, "TMPDIR": folder}
        env.pop("OPENAI_API_KEY", None)
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
        ) as demo:
            assert demo.stdout is not None
            line = demo.stdout.readline()
            assert line, demo.communicate()
            assert Path(json.loads(line)["config"]).is_relative_to(folder)
            demo.send_signal(number)
            _, errors = demo.communicate(timeout=20)
        assert demo.returncode == 0, errors
        assert os.listdir(folder) == []
