"""A client through its cells: its driver's process, and what became of each."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from tests.clients.cells import CELLS, PICTURE, Cell, Seen, Way, uri
from tests.clients.clients import Client
from tests.clients.stand import Stand

START_SECONDS: Final = 120.0  # to import a client on a busy machine
CELL_SECONDS: Final = 60.0
LINE: Final = 1024 * 1024

#: Of the environment's variables, those that would lead a client elsewhere.
_OTHERS: Final = ("OPENAI_", "LLM_", "PYTHONPATH", "NODE_OPTIONS")


@dataclass(frozen=True, slots=True)
class Outcome:
    """`ok` is None where the client has no such feature; `why` says what is wrong, or that."""

    ok: bool | None
    why: str = ""
    seconds: float = 0.0


class Driver:
    """A driver's process, begun again where it has died. Its answers are lines."""

    def __init__(self, command: Sequence[str], home: Path, folder: Path) -> None:
        self._command, self._folder = command, folder
        kept = {k: v for k, v in os.environ.items() if not k.startswith(_OTHERS)}
        mine = {"HOME": str(folder), "CLIENT_HOME": str(home), "NO_PROXY": "127.0.0.1"}
        self._env = {**kept, **mine, "no_proxy": "127.0.0.1", "AI_SDK_LOG_WARNINGS": "false"}
        self._process: asyncio.subprocess.Process | None = None

    async def ask(self, question: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Raises TimeoutError, and RuntimeError with the last of what it wrote where it ended."""
        timeout = seconds
        if self._process is None:
            self._process = await self._start()
            timeout += START_SECONDS
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(ConnectionError):
            process.stdin.write(json.dumps(question).encode() + b"\n")
        async with asyncio.timeout(timeout):
            line = await process.stdout.readline()
        if not line:
            await self.stop()
            raise RuntimeError(
                self._errors.read_text(errors="replace").strip()[-1000:] or "it ended"
            )
        answer: dict[str, Any] = json.loads(line)
        return answer

    @property
    def _errors(self) -> Path:
        return self._folder / "stderr"

    async def _start(self) -> asyncio.subprocess.Process:
        with self._errors.open("wb") as stderr:
            return await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                env=self._env,
                cwd=self._folder,
                limit=LINE,
                start_new_session=True,  # a group of its own: curl and llm end with it
            )

    async def stop(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
            self._process = None


async def run_client(
    stand: Stand,
    client: Client,
    driver: Driver,
    done: Callable[[Cell, Outcome], None],
    seconds: float = CELL_SECONDS,
    cells: Sequence[Cell] = CELLS,
) -> None:
    """Every cell, one after the other; `done` hears of each."""
    try:
        for cell in cells:
            if cell.name in client.without:
                done(cell, Outcome(None, client.notes[cell.name]))
                continue
            done(cell, await _outcome(stand, client, driver, cell, seconds))
    finally:
        await driver.stop()


async def _outcome(
    stand: Stand, client: Client, driver: Driver, cell: Cell, seconds: float
) -> Outcome:
    attempts = 0
    try:
        async with (
            asyncio.timeout(START_SECONDS + seconds),
            prepared(stand, cell) as (name, secret),
        ):
            question = {
                "op": cell.op,
                "url": stand.url,
                "key": secret if cell.known else "vg_wrong",
                "model": cell.model,
                "text": "What is the area, and what is in the sky?",
                "picture": uri(PICTURE),
                **cell.fields,
            }
            told = await driver.ask(question, seconds)
            attempts = await stand.attempts(name, secret)
    except TimeoutError:
        await driver.stop()
        return Outcome(False, f"no answer in {seconds:g} s")
    except RuntimeError as error:
        return Outcome(False, f"its driver ended: {error}")
    except (aiohttp.ClientError, OSError) as error:
        return Outcome(False, f"the gateway could not be prepared or asked: {error!r}")
    seen = Seen(
        text=told["text"],
        pieces=told["pieces"],
        usage=tuple(told["usage"]) if told["usage"] else None,
        error=told["error"],
        attempts=attempts,
    )
    errors, asks = client.errors.get(cell.name, ""), client.attempts.get(cell.name, 1)
    wrong = cell.judge(seen, Way(errors, asks, client.shows))
    return Outcome(wrong is None, wrong or "", told["seconds"])


@asynccontextmanager
async def prepared(stand: Stand, cell: Cell) -> AsyncIterator[tuple[str, str]]:
    """A key of the cell's own, by name and secret, in the state that the cell is about."""
    name, secret = await stand.key(*cell.limits)
    async with AsyncExitStack() as stack:
        if cell.spent:
            await stand.spend(secret)
        if cell.held:
            await stack.enter_async_context(stand.held(name, secret))
        yield name, secret
