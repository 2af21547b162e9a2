"""`visiongate target`."""

from __future__ import annotations

from argparse import Namespace
from typing import Any, Final

from proxy.cli.output import note, show_json, show_table
from proxy.cli.session import Session, in_session
from proxy.manage.targets import Switched

_COLUMNS: Final = (
    "model",
    "provider",
    "upstream_model",
    "priority",
    "weight",
    "status",
    "until",
    "by",
    "reason",
)


@in_session
async def list_targets(args: Namespace, s: Session) -> None:
    rows = await s.desk.targets.rows()
    if args.json:
        show_json(rows)
    else:
        _show(rows)


@in_session
async def disable(args: Namespace, s: Session) -> None:
    _done(
        args,
        await s.desk.targets.disable(args.provider, args.model, args.until, args.reason or ""),
        "",
    )


@in_session
async def enable(args: Namespace, s: Session) -> None:
    _done(args, await s.desk.targets.enable(args.provider, args.model), "it was not disabled")


def _done(args: Namespace, done: Switched, unchanged: str) -> None:
    if args.json:
        show_json(done.rows)
    else:
        _show(done.rows)
    if not done.changed:
        note(unchanged)
    for warning in done.warnings:
        note(f"warning: {warning}")


def _show(rows: list[dict[str, Any]]) -> None:
    shown = [{**row, "weight": _plain(row["weight"])} for row in rows]
    show_table(_COLUMNS, shown, empty="no model of this configuration is served there")


def _plain(weight: float | None) -> str | None:
    return None if weight is None else f"{weight:g}"
