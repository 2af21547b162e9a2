"""Whether a provider can be reached and takes its keys, by the list of its models: asked for as a
request would be, over its own transport, and never billed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Final

from proxy.domain.errors import UpstreamFailed
from proxy.providers.answers import refusal_of
from proxy.providers.listing import Listed, read_listing, unlisted
from proxy.upstream.call import Call, Outgoing, Provider, Transport
from proxy.upstream.faults import refused, unanswered

_LARGEST_LIST: Final = 16 << 20
_REFUSED: Final = (401, 403)


@dataclass(frozen=True, slots=True)
class Asked:
    """A provider to be proved, and what its targets call their models."""

    provider: Provider
    base_url: str
    models: Sequence[str]


@dataclass(frozen=True, slots=True)
class Proof:
    """What was found out with one of a provider's keys: its number from 1, None where it has none.

    `authorised` is None where nothing was proved; `seconds` until the answer's head, with a new
    connection; `unlisted` are models that its list does not have, None where that cannot be told.
    `fault`: what is wrong, in plain words; `remark`: what was not proved.
    """

    provider: str
    key: int | None
    reachable: bool = False
    authorised: bool | None = None
    seconds: float | None = None
    unlisted: tuple[str, ...] | None = None
    fault: str = ""
    remark: str = ""


async def prove(
    asked: Asked, transport: Transport, told: Callable[[Proof], None] = lambda proof: None
) -> list[Proof]:
    """Each key of a provider, all at once; `told` of each as it is known. Within its time-outs."""
    keys: list[tuple[int | None, str | None]] = [*enumerate(asked.provider.api_keys, 1)]
    everybody = asyncio.create_task(_gives_to_all(asked, transport), name="a list without a key")

    async def one(number: int | None, key: str | None) -> Proof:
        found = await _ask(asked, transport, number, key)
        if found.authorised and await everybody:
            remark = "lists its models to everybody: no key is proved by that"
            found = replace(found, authorised=None, remark=remark)
        told(found)
        return found

    try:
        return await asyncio.gather(*(one(*key) for key in keys or [(None, None)]))
    finally:
        everybody.cancel()
        await asyncio.wait([everybody])


async def _gives_to_all(asked: Asked, transport: Transport) -> bool:
    """Whether who has no key gets the list all the same."""
    if not asked.provider.api_keys or asked.provider.kind.models_url is None:
        return False
    return not (await _ask(asked, transport, None, None)).fault


async def _ask(asked: Asked, transport: Transport, number: int | None, key: str | None) -> Proof:
    provider = asked.provider
    listed_at, limits = provider.kind.models_url, provider.timeouts
    # A list is not thought about: it gets the time of a first byte, from its first to its last.
    limits = replace(limits, total=min(limits.total, limits.first_byte))
    url = listed_at(asked.base_url) if listed_at else asked.base_url
    headers = provider.kind.headers(key) if listed_at else {}  # a key is for what is known alone
    call = transport.get(Outgoing(url=url, headers=headers, body=(), timeouts=limits))
    proof = Proof(provider.name, number)
    try:
        await call.head()
        proof = replace(proof, reachable=True, seconds=monotonic() - call.begun)
        if listed_at is None:
            return replace(proof, remark="answers; its kind has no list to prove more by")
        found = _read(call, await call.read(_LARGEST_LIST))
    except UpstreamFailed as error:
        return replace(proof, fault=unanswered(error, limits, begun=proof.reachable))
    finally:
        call.leave()
    if isinstance(found, int):
        fault = refused(found, url, call.headers.get("location"), key)
        return replace(proof, authorised=False if found in _REFUSED else None, fault=fault)
    proof = replace(proof, authorised=None if key is None else True)
    if provider.kind.deployments:
        return replace(proof, remark="lists no deployments: they are not proved")
    return replace(proof, unlisted=unlisted(found, asked.models) if found.whole else None)


def _read(call: Call, body: bytes) -> Listed | int:
    """The list, or a status: 200 is an answer without one."""
    if call.status != 200:
        return refusal_of(call.status, call.headers, body).upstream_status
    return read_listing(body) or 200
