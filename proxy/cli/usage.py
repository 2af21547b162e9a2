"""`visiongate usage`."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from proxy.cli.faults import WrongUsage
from proxy.cli.output import say, show_csv, show_json, show_table
from proxy.cli.session import Session, in_session
from proxy.cli.values import month_end
from proxy.store.report import SHOWN, Question, make_report


@in_session
async def report(args: Namespace, s: Session) -> None:
    since, until = _period(args)
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


def _period(args: Namespace) -> tuple[date | None, date]:
    """The first and last day, both included; the month so far where nothing was asked for."""
    today = datetime.now(UTC).date()
    if args.month:
        if args.since or args.until:
            raise WrongUsage("--month is a period already: leave out --since and --until")
        first, last = args.month
        return first, last
    if args.since is None and args.until is None:
        return today.replace(day=1), month_end(today.replace(day=1))
    until = args.until or today
    if args.since and args.since > until:
        raise WrongUsage(f"--since {args.since} is after --until {until}")
    return args.since, until


def _totals(first: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    sums = {name: sum(row[name] for row in rows) for name in (*SHOWN, "usd")}
    return {first: "total", **sums}
