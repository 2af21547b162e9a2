"""The command `llm`, as its user types it: models in extra-openai-models.yaml, errors on stderr."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from serving import Seen, serve

LLM = (str(Path(sys.executable).with_name("llm")),)
TOOL = 'def area(width: int, height: int) -> int:\n    "The area."\n    return width * height\n'


class CommandFailed(Exception):
    pass


def say(ask: Any, seen: Seen, *words: str, log: bool = False) -> None:
    """Run it to its end, and read what it prints as it prints it."""
    with tempfile.TemporaryDirectory() as folder:
        # YAML takes JSON.
        entry = {
            "model_id": "vision",
            "model_name": ask.model,
            "api_base": ask.url,
            "api_key_name": "visiongate",  # without it no key is sent, whatever --key says
            "supports_tools": True,
            "vision": True,
        }
        (Path(folder) / "extra-openai-models.yaml").write_text(json.dumps([entry]))
        picture = Path(folder) / "picture.png"
        picture.write_bytes(base64.b64decode(ask.picture.partition(",")[2]))
        env = {**os.environ, "LLM_USER_PATH": folder}
        if hasattr(ask, "temperature"):
            words = (*words, "-o", "temperature", str(ask.temperature))
        command = (
            *LLM,
            "-m",
            "vision",
            *(word.format(picture=picture) for word in words),
            ask.text,
        )
        errors = Path(folder) / "errors"
        with (
            errors.open("wb") as stderr,
            subprocess.Popen(
                (*command, "--key", ask.key),
                stdin=subprocess.DEVNULL,  # it would read a prompt from it
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=env,
            ) as process,
        ):
            while piece := os.read(process.stdout.fileno(), 65536):
                seen.piece(piece.decode())
        if process.returncode:
            raise CommandFailed(errors.read_text().strip())
        if log:
            logged = subprocess.run((*LLM, "logs", "--json"), env=env, stdout=subprocess.PIPE)
            (row,) = json.loads(logged.stdout)
            seen.counted(row["input_tokens"], row["output_tokens"])


def whole(ask: Any, seen: Seen) -> None:
    say(ask, seen, "--no-stream", log=True)


def stream(ask: Any, seen: Seen) -> None:
    say(ask, seen, log=True)


def image(ask: Any, seen: Seen) -> None:
    say(ask, seen, "-a", "{picture}")


def tools(ask: Any, seen: Seen) -> None:
    say(ask, seen, "--functions", TOOL)


serve(whole=whole, image=image, stream=stream, tools=tools)
