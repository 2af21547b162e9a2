"""The program of README, before the demo."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from proxy.demo.picture import demo_picture
from tests.fleet import ROOT


def test_the_program_of_readme(tmp_path: Path) -> None:
    """With the demo's address and key in it, and a picture beside it, it prints what is seen."""
    readme = (ROOT / "README.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    (tmp_path / "cat.png").write_bytes(demo_picture())
    env = {**os.environ, "OPENAI_API_KEY": ""}
    command = (sys.executable, "-m", "proxy", "demo", "--port", "0", "--json")
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env, cwd=ROOT) as demo:
        try:
            assert demo.stdout is not None
            told = json.loads(demo.stdout.readline())
            printed = _printed(_filled(program, told), tmp_path)
        finally:
            demo.terminate()
    assert printed == "The image is a PNG of 64 by 48 pixels; its dominant colour is teal."


def _filled(program: str, told: dict[str, str]) -> str:
    for written, name in (("http://127.0.0.1:8080/v1", "base_url"), ("vg_KEY", "key")):
        assert program.count(written) == 1
        program = program.replace(written, told[name])
    return program


def _printed(program: str, folder: Path) -> str:
    """What it prints. Raises AssertionError with what it says where it fails."""
    ran = subprocess.run(
        (sys.executable, "-c", program), cwd=folder, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
