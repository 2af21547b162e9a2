"""A gateway with a model and a provider for each cell of the fault matrix, and the official SDK."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import aiohttp.connector
import openai
import pytest

from tests.gateway import Gateway, open_gateway
from tests.scripted import Recorded, ScriptedUpstream, Step
from tests.scripted.server import Stage
from tests.web.fault_steps import At, Cell
from tests.web.fault_wire import WHOLE, WIRES, Wire

TLS = Path(__file__).parents[1] / "upstream" / "tls"
STRANGER = Path(__file__).parents[1] / "images" / "tls" / "valid.pem"

#: The model of a provider that does nothing wrong.
GOOD = "whole"
TEAM, KEY = "vision", "ci"
PRICE = {"input": 2.5, "output": 10}
#: What no cell reaches that does not ask for it, and what ends those that do.
PATIENT = {"connect": "10s", "first_byte": "10s", "idle": "10s", "total": "60s"}
SHORT = {"connect": "300ms", "first_byte": "300ms", "idle": "600ms", "total": "1200ms"}


class Seen(NamedTuple):
    """What a client has of an answer."""

    text: str
    finish: str | None
    raises: type[Exception] | None
    status: int


@dataclass
class FaultStand:
    gate: Gateway
    wire: Wire
    client: openai.AsyncOpenAI
    upstreams: Sequence[ScriptedUpstream]
    cells: Sequence[Cell]
    before: set[asyncio.Task[Any]] = field(default_factory=asyncio.all_tasks)

    async def ask(self, model: str, run: int = 0) -> Seen:
        """One stream, read to its end."""
        words, finish = [], None
        content = f"{model}#{run}"
        try:
            stream = await self.client.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": content}],
                max_tokens=50,
                stream=True,
            )
            async for chunk in stream:
                words.append(chunk.choices[0].delta.content or "")
                finish = chunk.choices[0].finish_reason or finish
        except openai.APIError as error:
            status = getattr(error, "status_code", 200)
            return Seen("".join(words), finish, type(error), status)
        return Seen("".join(words), finish, None, 200)


@asynccontextmanager
async def open_faults(
    store_url: str, cells: Sequence[Cell], *, kind: str = "openai", transport: str = "direct"
) -> AsyncIterator[FaultStand]:
    """Everything that the cells need, over one transport and before one kind of provider."""
    wire = WIRES[kind]
    async with AsyncExitStack() as stack:
        stack.enter_context(trusted())
        places = Places(wire, {cell.name: cell for cell in cells}, stack)
        providers, models = dict[str, Any](), dict[str, Any]()
        for cell in (*cells, None):
            name = cell.name if cell else GOOD
            by = cell.by if cell else ""
            providers[name] = {
                **wire.provider,
                "base_url": await places.url(cell),
                "api_key": "sk-upstream-secret",
                "transport": transport,
                "timeouts": PATIENT | {k: v for k, v in SHORT.items() if k == by},
                "breaker": {"failures": 0},
            }
            targets = [{"provider": name, "model": wire.model}]
            models[name] = {
                "targets": targets,
                "retries": 0,
                "price": PRICE,
                "max_output": 100,
                "vision": False,
            }
        gate = await stack.enter_async_context(
            open_gateway(store_url, "http://127.0.0.1:9/v1", providers=providers, models=models)
        )
        await gate.metrics()  # whose connection stays
        key = await gate.key("1M requests/day", "1G tokens/day", team=TEAM, name=KEY)
        client = openai.AsyncOpenAI(
            base_url=f"{gate.url}/v1", api_key=key, max_retries=0, timeout=30
        )
        stack.push_async_callback(client.close)
        yield FaultStand(gate, wire, client, places.upstreams, cells)


class Places:
    """The servers at which cells are, each opened when the first cell asks for it."""

    def __init__(self, wire: Wire, cells: dict[str, Cell], stack: AsyncExitStack) -> None:
        self.upstreams: list[ScriptedUpstream] = []
        self._wire = wire
        self._cells = cells
        self._stack = stack
        self._urls: dict[At, str] = {}

    async def url(self, cell: Cell | None) -> str:
        """The base URL of a cell's provider; without one, of that which does nothing wrong."""
        at = At.UPSTREAM if cell is None else cell.at
        if cell is not None and at is At.GREETER:
            made = await self._greeter(cell)
        else:
            made = self._urls[at] = self._urls.get(at) or await self._open(at)
        # Azure's has no path.
        return made if self._wire.provider["kind"] == "azure" else f"{made}/v1"

    async def _open(self, at: At) -> str:
        if at in (At.NOBODY, At.FULL, At.MUTE):
            return f"http://127.0.0.1:{self._stack.enter_context(deaf(at))}"
        upstream = ScriptedUpstream(_context(at))
        await self._stack.enter_async_context(upstream)
        upstream.script(self._answer)
        self.upstreams.append(upstream)
        return f"{'http' if at is At.UPSTREAM else 'https'}://127.0.0.1:{upstream.port}"

    def _answer(self, request: Recorded) -> Sequence[Step]:
        """By what the request says of the cell, and of the number of its run."""
        asked = re.search(rb"([a-z0-9-]+)#(\d+)", request.body)
        assert asked is not None
        name, run = asked[1].decode(), int(asked[2])
        if name == GOOD:
            return self._wire.steps(WHOLE)
        return self._cells[name].script(self._wire, run, Random(f"{name}#{run}"))

    async def _greeter(self, cell: Cell) -> str:
        runs = iter(range(1_000_000))
        play = partial(_greet, lambda: cell.script(self._wire, next(runs), Random(0)))
        server = await asyncio.start_server(play, "127.0.0.1", 0)
        self._stack.callback(server.close)
        return f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _greet(
    script: Callable[[], list[Step]], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Play a script until the client has gone."""

    async def play() -> None:
        stage = Stage(writer)
        for step in script():
            await stage.play(step)

    playing = asyncio.create_task(play(), name="greeter")
    with contextlib.suppress(OSError):
        while await reader.read(65536):
            pass
    playing.cancel()
    await asyncio.gather(playing, return_exceptions=True)
    writer.transport.abort()


def _context(at: At) -> ssl.SSLContext | None:
    if at is At.UPSTREAM:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    if at is At.STRANGER:
        context.load_cert_chain(STRANGER)
    else:
        context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
    if at is At.ASKING:
        context.load_verify_locations(TLS / "cert.pem")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@contextmanager
def trusted() -> Iterator[None]:
    """Have both transports trust the scripted upstream's certificate."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(TLS / "cert.pem"))
        # Which aiohttp made when it was imported.
        context = ssl.create_default_context(cafile=str(TLS / "cert.pem"))
        patch.setattr(aiohttp.connector, "_SSL_CONTEXT_VERIFIED", context)
        yield


@contextmanager
def deaf(at: At) -> Iterator[int]:
    """The port of a server that takes no connection, has no room for one, or never reads."""
    with socket.socket() as taken, socket.socket() as first:
        taken.bind(("127.0.0.1", 0))
        if at is not At.NOBODY:
            taken.listen(0 if at is At.FULL else 1024)
        if at is At.FULL:
            first.connect(taken.getsockname())  # there is no room for a second
        yield taken.getsockname()[1]
