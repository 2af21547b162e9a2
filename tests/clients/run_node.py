"""The official Node SDK against a real gateway: `make node`.

Starts `visiongate demo`, makes a key whose budget is used up, and runs node's test runner.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SUITE = Path(__file__).parent / "node"
VISIONGATE = (sys.executable, "-m", "proxy")
SECONDS = 300


def main() -> int:
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        sys.exit("make node needs Node.js 20 or later, with npm, on the PATH")
    install = (npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error")
    subprocess.run(install, cwd=SUITE, check=True, timeout=SECONDS)
    with running_demo() as demo:
        env = {
            **os.environ,
            "VISIONGATE_URL": demo["base_url"],
            "VISIONGATE_KEY": demo["key"],
            "VISIONGATE_SPENT_KEY": spent_key(demo),
        }
        command = (node, "--test", "--test-reporter=spec", "suite.mjs")
        return subprocess.run(command, cwd=SUITE, env=env, timeout=SECONDS).returncode


@contextmanager
def running_demo() -> Iterator[dict[str, Any]]:
    """What `visiongate demo --json` tells, for as long as it runs."""
    env = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
    command = (*VISIONGATE, "demo", "--port", "0", "--json")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as demo:
        try:
            line = demo.stdout.readline() if demo.stdout else b""
            if not line:
                raise RuntimeError(demo.stderr.read().decode() if demo.stderr else "no demo")
            yield json.loads(line)
        finally:
            demo.send_signal(signal.SIGTERM)
            demo.communicate(timeout=30)


def spent_key(demo: dict[str, Any]) -> str:
    """A key with a budget of one request, used up."""
    command = ("key", "create", "--team", demo["team"], "--name", "spent", "--limit", "1 request")
    made = subprocess.run(
        (*VISIONGATE, "-c", demo["config"], *command, "--json"),
        check=True,
        stdout=subprocess.PIPE,
        timeout=30,
    )
    key: str = json.loads(made.stdout)["key"]
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}
    request = urllib.request.Request(
        f"{demo['base_url']}/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        answer.read()
    return key


if __name__ == "__main__":
    sys.exit(main())
