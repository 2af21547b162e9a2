"""`visiongate serve`, `check` and `demo`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from proxy import logs
from proxy.certificates import BadCertificate
from proxy.cli.faults import FAILED, WRONG, Failure, explain
from proxy.cli.output import note, say_good, show_fields, show_json
from proxy.cli.session import config_file, explained, open_store, read_config, session
from proxy.config import Config, ConfigError, Problem, doubtful, literal_secrets
from proxy.domain.identity import KeyRecord, TeamRecord
from proxy.manage.checks import strays
from proxy.store.client import SchemaError
from proxy.store.layout import VERSION
from proxy.store.opening import look_at_data
from proxy.store.survey import server_version, server_warnings

#: Days before its end that a certificate is worth a warning.
_SOON: Final = 14

#: Files that it may open where the system would have no end of them.
_FILES: Final = 1 << 20

#: Where the configuration would have what a field of a record names.
_BLOCKS: Final = {"plan": "plans", "limits": "models"}


def serve(args: Namespace) -> int:
    from proxy.generation import Generation
    from proxy.master import Master

    def prepare(before: Sequence[Generation]) -> Generation:
        config = read_config(args)
        try:
            with explained(config):
                return Generation.prepare(config, open_store, before)
        except OSError as error:
            public, admin = config.server, config.admin
            raise Failure(
                f"cannot listen on {public.host} port {public.port} and {admin.host} port "
                f"{admin.port}: {error.strerror or error}. Is another one running? "
                "See server.port and admin.port"
            ) from error

    logs.configure()
    allow_open_files()
    return Master(prepare, _why).run()


def allow_open_files() -> None:
    """As many as the system allows: an open stream takes two, and a shell's usual limit is 1024."""
    usual, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if most == resource.RLIM_INFINITY else min(most, _FILES)
    if usual != resource.RLIM_INFINITY and usual < wanted:
        with contextlib.suppress(OSError, ValueError):  # some systems allow fewer than they say
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _why(error: Exception) -> str:
    """Of a bug only the kind: its words may tell too much."""
    told = explain(error)
    return told[1].removeprefix("visiongate: ") if told else type(error).__name__


def demo(args: Namespace) -> int:
    from proxy.demo.command import run_demo

    return run_demo(args.port, args.json)


def check(args: Namespace) -> int:
    try:
        config = read_config(args)
    except ConfigError as error:
        if not args.json:
            raise
        return _tell_problems(error.problems, as_json=True)
    summary: dict[str, Any] = {
        "config": str(config_file(args)),
        "providers": list(config.providers),
        "models": list(config.models),
        "plans": list(config.plans),
    }
    failed = args.providers and _providers_fail(config, summary, as_json=args.json)
    try:
        store, warnings, missing = asyncio.run(_look(config))
    except (Failure, SchemaError) as error:
        if not args.json:
            raise
        reachable = isinstance(error, SchemaError)
        store = {"address": config.store.address, "reachable": reachable, "error": str(error)}
        show_json({"ok": False, **summary, "store": store})
        return FAILED
    certificates, ending = _certificates(config)
    unwritable = look_at_data(config.store.data)
    if problems := missing + certificates + ([("store.data", unwritable)] if unwritable else []):
        file = summary["config"]
        return _tell_problems([Problem(file, None, *each) for each in problems], as_json=args.json)
    warnings = doubtful(config) + warnings + ending
    warnings += literal_secrets(config_file(args), os.environ)
    _tell_summary(summary, store, warnings, as_json=args.json, ok=not failed)
    return FAILED if failed else 0


def _providers_fail(config: Config, summary: dict[str, Any], *, as_json: bool) -> bool:
    """Whether one does; what was found is told, or added to what will be."""
    from proxy.cli.providers import look_at_providers, tell_providers

    asked = look_at_providers(config)
    if as_json:
        summary["provider_checks"] = asked
    else:
        tell_providers(asked)
    return any(row["fault"] for row in asked)


def _certificates(config: Config) -> tuple[list[tuple[str, str]], list[str]]:
    """What is wrong with the listeners' certificates, and which will end soon."""
    from proxy.listeners import open_certificates

    try:
        opened = open_certificates(config)
    except BadCertificate as error:
        return [(error.field, str(error))], []
    left = [(each.until - time.time()) / 86400 if each else None for each in opened]
    return [], [
        f"{block}.tls.cert ends in {days:.0f} days; renew it, and send SIGHUP"
        for block, days in zip(("server", "admin"), left, strict=True)
        if days is not None and days < _SOON
    ]


def _tell_problems(problems: list[Problem], *, as_json: bool) -> int:
    if as_json:
        show_json({"ok": False, "problems": [asdict(problem) for problem in problems]})
    else:
        note("\n".join(map(str, problems)))
    return WRONG


def _tell_summary(
    summary: dict[str, Any], store: dict[str, Any], warnings: list[str], *, as_json: bool, ok: bool
) -> None:
    if as_json:
        show_json({"ok": ok, **summary, "store": store, "warnings": warnings})
        return
    say_good(f"{summary.pop('config')} is right, and the store answers")
    where = f"{store['address']}, {store['version']}, schema {store['schema']}"
    show_fields({**summary, "store": where, "teams": store["teams"], "keys": store["keys"]})
    for warning in warnings:
        note(f"warning: {warning}")


async def _look(config: Config) -> tuple[dict[str, Any], list[str], list[tuple[str, str]]]:
    """The store, what is unsafe about it, and what its teams and keys name that the
    configuration does not have.
    """
    async with session(config) as s:
        warnings = await server_warnings(s.store, config.store.wait_replicas)
        teams = await s.directory.teams()
        keys = [k for k in await s.directory.all_keys() if k.status != "revoked"]
        store = {
            "address": config.store.address,
            "reachable": True,
            "version": await server_version(s.store),
            "schema": VERSION,
            "teams": len(teams),
            "keys": len(keys),
        }
        records: list[TeamRecord | KeyRecord] = [*teams, *keys]
        return (
            store,
            warnings,
            [
                (_BLOCKS[field], f"{_whose(record)}: {message}")
                for record in records
                for field, message in strays(config, record)
            ],
        )


def _whose(record: TeamRecord | KeyRecord) -> str:
    kind = f"key {record.id}" if isinstance(record, KeyRecord) else "team"
    return f"the {kind} '{record.name}' of the store"
