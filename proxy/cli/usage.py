"""`visiongate usage`."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

from proxy.cli.faults import WrongUsage
from proxy.cli.output import say, show_csv, show_json, show_table
from proxy.cli.session import Session, in_session
from proxy.cli.values import month_end
from proxy.config.problems import nearest
from proxy.domain.identity import KeyRecord, TeamRecord
from proxy.domain.limits import NANO
from proxy.store.directory import DirectoryError
from proxy.store.usage import FIGURES, Row, group, read_rows

_SHOWN: Final = ("requests", "input_tokens", "output_tokens", "cached_tokens", "image_tokens")
_LABEL: Final = "label:"


@dataclass(frozen=True, slots=True)
class _Names:
    """What is known beside the rows, deleted teams and keys too."""

    teams: Mapping[str, TeamRecord]
    keys: Mapping[str, KeyRecord]


@in_session
async def report(args: Namespace, s: Session) -> None:
    since, until = _period(args)
    names = _Names(
        {team.name: team for team in await s.directory.teams(deleted=True)},
        {key.id: key for key in await s.directory.all_keys()},
    )
    found = await _rows(args, s, names, since, until)
    labels = _labels(found, names) if "team" in args.by else []
    grouped = group(found, args.by)
    rows = [_shape(args.by, by, f, names, labels) for by, f in grouped.items() if any(f)]
    form = "json" if args.json else args.format
    if form == "json":
        show_json(rows)
        return
    key_id = ["key_id"] if form == "csv" and "key" in args.by else []
    columns = [*args.by, *key_id, *(_LABEL + label for label in labels), *_SHOWN, "usd"]
    if form == "csv":
        show_csv(columns, rows)
        return
    span = f"{since or 'the beginning'} to {until}, UTC"
    show_table(columns, rows, empty=f"no usage: {span}", totals=_totals(args.by[0], rows))
    if rows:
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


async def _rows(
    args: Namespace, s: Session, names: _Names, since: date | None, until: date
) -> list[Row]:
    if args.team and args.team not in names.teams:
        raise DirectoryError(f"there is no team {args.team!r}{nearest(args.team, names.teams)}")
    teams = [args.team] if args.team else list(names.teams)
    read = await asyncio.gather(*(read_rows(s.store, team, since, until) for team in teams))
    rows = [row for rows in read for row in rows]
    if args.key:
        ids = _key_ids(args.key, teams, names)
        rows = [row for row in rows if row.key in ids]
    if args.model:
        known = {*s.config.models, *(row.model for row in rows)}
        if args.model not in known:
            raise DirectoryError(f"unknown model {args.model!r}{nearest(args.model, known)}")
        rows = [row for row in rows if row.model == args.model]
    return rows


def _key_ids(name: str, teams: Sequence[str], names: _Names) -> set[str]:
    """Every key, revoked ones too, of that id or name."""
    keys = [key for key in names.keys.values() if key.team in teams]
    ids = {key.id for key in keys if name in (key.id, key.name)}
    if not ids:
        raise DirectoryError(f"there is no key {name!r}{nearest(name, {k.name for k in keys})}")
    return ids


def _labels(rows: Sequence[Row], names: _Names) -> list[str]:
    teams = {row.team for row in rows}
    return sorted({label for team in teams for label in names.teams[team].labels})


def _shape(
    fields: Sequence[str],
    by: Sequence[str],
    figures: Sequence[int],
    names: _Names,
    labels: Sequence[str],
) -> dict[str, Any]:
    shape: dict[str, Any] = dict(zip(fields, by, strict=True))
    if "key" in shape:
        shape["key_id"] = shape["key"]
        record = names.keys.get(shape["key"])
        shape["key"] = record.name if record else shape["key"]
    for label in labels:
        shape[_LABEL + label] = names.teams[shape["team"]].labels.get(label)
    named = dict(zip(FIGURES, figures, strict=True))
    return {
        **shape,
        **{name: named[name] for name in _SHOWN},
        "usd": Decimal(named["nano_usd"]) / NANO,
    }


def _totals(first: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    sums = {name: sum(row[name] for row in rows) for name in (*_SHOWN, "usd")}
    return {first: "total", **sums}
