"""Usage reports: rows by whatever they are asked by, with the names that people know."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final

from proxy.config.problems import nearest
from proxy.domain.identity import KeyRecord, TeamRecord
from proxy.domain.limits import NANO
from proxy.store.changes import known_names
from proxy.store.client import Store
from proxy.store.directory import Directory, DirectoryError
from proxy.store.usage import FIGURES, Row, group, read_rows

SHOWN: Final = ("requests", "input_tokens", "output_tokens", "cached_tokens", "image_tokens")
LABEL: Final = "label:"


@dataclass(frozen=True, slots=True)
class Question:
    """What a report is of; None: all. Days are UTC, both included; `key` is an id or a name."""

    by: tuple[str, ...]
    since: date | None
    until: date
    team: str | None = None
    key: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """`rows` have the grouping fields, `key_id`, labels and figures; `labels` name columns."""

    rows: list[dict[str, Any]]
    labels: list[str]


@dataclass(frozen=True, slots=True)
class _Names:
    """What is known beside the rows, deleted teams and keys too."""

    teams: Mapping[str, TeamRecord]
    keys: Mapping[str, KeyRecord]


async def make_report(
    store: Store, directory: Directory, models: Sequence[str], asked: Question
) -> Report:
    """Answer a question; `models` are those of the config.

    Raises DirectoryError for a team, key or model that nobody knows.
    """
    names = _Names(
        {team.name: team for team in await directory.teams(deleted=True)},
        {key.id: key for key in await directory.all_keys()},
    )
    found = await _rows(store, models, asked, names)
    labels = _labels(found, names) if "team" in asked.by else []
    grouped = group(found, asked.by)
    rows = [_shape(asked.by, by, f, names, labels) for by, f in grouped.items() if any(f)]
    rows.sort(key=lambda row: [row[name] for name in asked.by])  # by names, not by ids
    return Report(rows, [LABEL + label for label in labels])


async def _rows(store: Store, models: Sequence[str], asked: Question, names: _Names) -> list[Row]:
    if asked.team and asked.team not in names.teams:
        known_teams = known_names(asked.team, names.teams)
        raise DirectoryError(f"there is no team {asked.team!r}{known_teams}", "team")
    teams = [asked.team] if asked.team else list(names.teams)
    read = await asyncio.gather(*(read_rows(store, t, asked.since, asked.until) for t in teams))
    rows = [row for rows in read for row in rows]
    if asked.key:
        ids = _key_ids(asked.key, teams, names)
        rows = [row for row in rows if row.key in ids]
    if asked.model:
        known = {*models, *(row.model for row in rows)}
        if asked.model not in known:
            near = nearest(asked.model, known)
            raise DirectoryError(f"unknown model {asked.model!r}{near}", "model")
        rows = [row for row in rows if row.model == asked.model]
    return rows


def _key_ids(name: str, teams: Sequence[str], names: _Names) -> set[str]:
    """Every key, revoked ones too, of that id or name."""
    keys = [key for key in names.keys.values() if key.team in teams]
    ids = {key.id for key in keys if name in (key.id, key.name)}
    if not ids:
        known = known_names(name, {key.name for key in keys})
        raise DirectoryError(f"there is no key {name!r}{known}", "key")
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
        shape[LABEL + label] = names.teams[shape["team"]].labels.get(label)
    named = dict(zip(FIGURES, figures, strict=True))
    return {
        **shape,
        **{name: named[name] for name in SHOWN},
        "usd": Decimal(named["nano_usd"]) / NANO,
    }
