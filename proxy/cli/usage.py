"""`visiongate usage`."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from proxy.cli.faults import WrongUsage
from proxy.cli.output import say, show_csv, show_json, show_table
from proxy.cli.session import Session, in_session
from proxy.manage.values import period
from proxy.store.report import SHOWN, Question, make_report


@in_session
async def report(args: Namespace, s: Session) -> None:
    try:
        since, until = period(args.since, args.until, args.month)
    except ValueError as error:
        raise WrongUsage(str(error)) from None
    asked = Question(args.by, since, until, args.team, args.key, args.model)
    made = await make_report(s.store, s.directory, list(s.config.models), asked)
    form = "json" if args.json else args.format
    if form == "json":
        show_json(made.rows)
        return
    key_id = ["key_id"] if form == "csv" and "key" in args.by else []
    columns = [*args.by, *key_id, *made.labels, *SHOWN, "usd"]
    if form == "csv":
        show_csv(columns, made.rows)
        return
    span = f"{since or 'the beginning'} to {until}, UTC"
    show_table(columns, made.rows, empty=f"no usage: {span}", totals=_totals(args.by[0], made.rows))
    if made.rows:
        say(span)


def _totals(first: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    sums = {name: sum(row[name] for row in rows) for name in (*SHOWN, "usd")}
    return {first: "total", **sums}
