"""Limits and plans on the command line: held against the configuration, changed, looked up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from proxy.access import Access, open_access
from proxy.cli.faults import WrongUsage
from proxy.cli.session import Session
from proxy.cli.values import Slot
from proxy.config import Config
from proxy.config.problems import nearest
from proxy.domain.identity import KeyRecord, TeamRecord, encode_record
from proxy.domain.limits import ANY_MODEL, Limit, merge
from proxy.rules import build_plans
from proxy.store.keyring import KeyRing
from proxy.store.ledger import Ledger
from proxy.store.shapes import limit_shape, source_of


def check_plan(config: Config, plan: str | None, whose: str = "") -> None:
    """Raises WrongUsage for a plan that the configuration does not have."""
    if plan is not None and plan not in config.plans:
        has = f"the {whose} has the " if whose else ""
        raise WrongUsage(f"{has}unknown plan {plan!r}{nearest(plan, config.plans)}")


def check_limits(config: Config, limits: Iterable[Limit]) -> None:
    """Raises WrongUsage for an unknown model, and for usd where a model has no price.

    The rules are those of the configuration's own limits.
    """
    for limit in limits:
        if limit.model != ANY_MODEL and limit.model not in config.models:
            raise WrongUsage(f"unknown model {limit.model!r}{nearest(limit.model, config.models)}")
        if limit.unit == "usd":
            _check_prices(config, limit)


def _check_prices(config: Config, limit: Limit) -> None:
    for name, model in config.models.items():
        if any(target.price is None for target in model.targets):
            raise WrongUsage(
                f"model {name!r} has no price in the configuration, but '{limit}' counts usd; "
                "a free model's is {input: 0, output: 0}"
            )


def strays(config: Config, record: TeamRecord | KeyRecord) -> list[tuple[str, str]]:
    """What a record names that the configuration does not have: its field, and a message."""
    found = []
    for field, check in (
        ("plan", partial(check_plan, config, record.plan)),
        ("limits", partial(check_limits, config, record.limits)),
    ):
        try:
            check()
        except WrongUsage as error:
            found.append((field, str(error)))
    return found


def changed_limits(
    own: tuple[Limit, ...], add: Sequence[Limit], remove: Sequence[Slot], whose: str
) -> tuple[Limit, ...]:
    """Its own limits without some and with others. Raises WrongUsage for one it does not have."""
    slots = {limit.slot for limit in own}
    for unit, window, model in remove:
        if (unit, window, model) not in slots:
            known = ", ".join(map(str, own)) or "none"
            of = "" if model == ANY_MODEL else f" on {model}"
            raise WrongUsage(
                f"the {whose} has no limit of its own of {unit}/{window}{of}; its own: {known}. "
                "A limit of its plan can be replaced with --limit"
            )
    return merge(tuple(limit for limit in own if limit.slot not in remove), tuple(add))


async def team_limits(s: Session, team: TeamRecord) -> list[dict[str, Any]]:
    """Every limit of a team, with what is used of it."""
    return await _limits(s, team, KeyRecord(id="", team=team.name, name="", created_at=0), "team")


async def key_limits(s: Session, key: KeyRecord) -> list[dict[str, Any]]:
    """Every limit that binds a key, its own and its team's, with what is used of it."""
    return await _limits(s, await s.directory.team(key.team), key, "")


async def _limits(s: Session, team: TeamRecord, key: KeyRecord, scope: str) -> list[dict[str, Any]]:
    check_plan(s.config, team.plan, f"team '{team.name}'")
    check_plan(s.config, key.plan, f"key '{key.name}'")
    plans = build_plans(s.config)
    access: Access = open_access("", encode_record(team), encode_record(key), plans)
    bounds = tuple(b for b in access.bounds if scope in ("", b.scope))
    ledger = Ledger(s.store, KeyRing(s.store, (), plans))  # not started: it only reads
    now, states = await ledger.peek(team.name, bounds)
    shapes = []
    for state in states:
        whose = team if state.bound.scope == "team" else key
        shapes.append(limit_shape(state, source_of(state.bound, whose.limits, whose.plan), now))
    return shapes
