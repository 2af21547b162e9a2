"""Where the deployment's files are, and the tools that look at them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "visiongate"
CONFIG = DEPLOY / "visiongate.yaml"
ENV = {"OPENAI_API_KEY": "sk-test", "REDIS_URL": "redis://h", "VISIONGATE_KEY_PEPPER": "p" * 16}


def tool(name: str, how: str) -> str:
    """The program's path; a test without it says that it was not run, and how to get it."""
    places = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    found = shutil.which(name, path=places)
    if found is None:
        pytest.skip(f"NOT RUN: there is no {name} ({how})")
    return found


def run(*words: str | Path, ok: bool = True, **options: Any) -> str:
    """What a command says, on either output."""
    done = subprocess.run(
        list(map(str, words)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )
    assert (done.returncode == 0) is ok, done.stdout
    return done.stdout


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())
