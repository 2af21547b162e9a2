"""What an operator should know of the servers before budgets are entrusted to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from proxy.domain.errors import StoreUnavailable
from proxy.store.client import SchemaError, Store

#: The first Redis whose scripts say what they may do; Valkey tells a version of Redis, too.
#: Source: https://redis.io/docs/latest/develop/programmability/eval-intro/#eval-flags
_OLDEST: Final = (7, 0)


class ServerTooOld(SchemaError):
    """A server that cannot run the scripts."""


async def server_warnings(store: Store, wait_replicas: int) -> list[str]:
    """What is unsafe about the store, a sentence each; for each server of a cluster.

    Raises ServerTooOld, and StoreUnavailable where no server answers.
    """
    warnings: list[str] = []
    told = await store.each("INFO")
    failures = [info for info in told.values() if isinstance(info, StoreUnavailable)]
    if len(failures) == len(told):
        raise failures[0]
    for name, info in told.items():
        where = "the store" if name == "store" else f"the store's node {name}"
        if isinstance(info, BaseException):
            warnings.append(f"{where} could not be looked at: INFO failed ({type(info).__name__})")
        else:
            check_version(where, info)
            warnings += judge(where, info, wait_replicas)
    return warnings


def check_version(where: str, info: Mapping[str, Any]) -> None:
    """Raise ServerTooOld by what INFO says."""
    version = str(info.get("redis_version", ""))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers and numbers < _OLDEST:
        raise ServerTooOld(
            f"{where} is Redis {version}: its scripts need Redis 7.0 or newer, or any Valkey"
        )


def judge(where: str, info: Mapping[str, Any], wait_replicas: int) -> list[str]:
    """The warnings about one server, from what INFO says of it.

    `maxmemory_policy`: INFO has it where CONFIG is forbidden, as on most managed servers.
    """
    policy = info.get("maxmemory_policy")
    replicas = int(info.get("connected_slaves", 0))
    checks = (
        (
            policy is None,
            "does not tell its maxmemory-policy: see that it is noeviction",
        ),
        (
            policy not in (None, "noeviction"),
            f"has maxmemory-policy {policy}: when memory is short it deletes budgets and keys; "
            "set it to noeviction",
        ),
        (
            info.get("aof_enabled") in (0, "0"),
            "has no append-only file: a restart loses what was used since its last snapshot; "
            "set appendonly to yes",
        ),
        (
            replicas < wait_replicas,
            f"has {replicas} replicas connected and store.wait_replicas is {wait_replicas}: "
            "every request is refused; connect more or lower it",
        ),
    )
    return [f"{where} {words}" for wrong, words in checks if wrong]


async def server_version(store: Store) -> str:
    """Name and version of the servers, each once, as far as they tell."""
    told = [info for info in (await store.each("INFO")).values() if isinstance(info, dict)]
    return ", ".join(sorted({_version(info) for info in told})) or "of an unknown version"


def _version(info: Mapping[str, Any]) -> str:
    valkey = info.get("valkey_version")
    return f"Valkey {valkey}" if valkey else f"Redis {info.get('redis_version', '(unknown)')}"
