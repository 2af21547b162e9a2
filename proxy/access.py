"""What a key may do: its record, its team's and their plans, brought together. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from proxy.domain.errors import Forbidden, Unauthorized
from proxy.domain.estimate import OutputCap
from proxy.domain.identity import (
    Bound,
    Grant,
    KeyRecord,
    Secret,
    TeamRecord,
    decode_key,
    decode_team,
)
from proxy.domain.limits import ANY_MODEL, Limit, merge
from proxy.images.policy import ImagePolicy


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan of the config, ready to be applied."""

    name: str
    models: frozenset[str]
    output: OutputCap
    limits: tuple[Limit, ...]
    require_stream: bool
    allow_parameters: frozenset[str]
    enforce: bool
    images: ImagePolicy
    low_budget: str = "reject"
    on_client_gone: str = "cancel"


@dataclass(frozen=True, slots=True)
class Access:
    """What a key may do: its own rules and its team's, whichever is narrower.

    Rules that do not merge into one (`caps`, `images`) are kept as several, all of which hold.
    `shrink`: what does not fit is made smaller; `drain`: streams whose client has gone are read
    to their end.

    `team_blob` and `key_blob` are the records as they were read: the ledger admits nothing
    on the strength of older ones. Seconds since 1970: at `until` a grant ends, and `bounds` are
    others; before `stands_until` the key may surely be used. `derived` is what others work out
    of it once, and keep with it.
    """

    digest: str
    team: TeamRecord
    key: KeyRecord
    team_blob: bytes
    key_blob: bytes
    models: frozenset[str]
    caps: tuple[OutputCap, ...]
    require_stream: bool
    allow_parameters: frozenset[str]
    enforce: bool
    shrink: bool
    drain: bool
    images: tuple[ImagePolicy, ...]
    bounds: tuple[Bound, ...]
    until: float = math.inf
    stands_until: float = field(init=False)
    derived: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ends = [self.key.expires_at, *(s.expires_at for s in self.secrets)]
        stands = self.secrets and self.key.status == self.team.status == "active"
        until = min((end for end in ends if end is not None), default=math.inf)
        object.__setattr__(self, "stands_until", until if stands else -math.inf)

    @property
    def secrets(self) -> list[Secret]:
        """The key's secret with this digest, if it still has it."""
        return [secret for secret in self.key.secrets if secret.digest == self.digest]

    def binding(self, model: str) -> tuple[Bound, ...]:
        """The limits that a request for `model` must fit."""
        bounds: tuple[Bound, ...] | None = self.derived.get(model)
        if bounds is None:
            bounds = tuple(b for b in self.bounds if b.limit.model in (ANY_MODEL, model))
            self.derived[model] = bounds
        return bounds


def open_access(
    digest: str, team_blob: bytes, key_blob: bytes, plans: Mapping[str, Plan], now: float = 0.0
) -> Access:
    """The access that two records give to the secret with this digest at `now` (seconds).

    Raises Forbidden for a record that cannot be read, and a plan that the config does not have.
    """
    try:
        team, key = decode_team(team_blob), decode_key(key_blob)
    except msgspec.DecodeError:
        raise Forbidden(
            "The record of this key cannot be read by this release. Ask your platform team."
        ) from None
    found = [_plan(plans, team.plan, f"team '{team.name}'")]
    key_limits: tuple[Limit, ...] = ()
    if key.plan is not None:
        found.append(_plan(plans, key.plan, f"key '{key.name}'"))
        key_limits = found[-1].limits
    grants = tuple(grant for grant in team.grants if grant.live(now))
    return Access(
        digest=digest,
        team=team,
        key=key,
        team_blob=team_blob,
        key_blob=key_blob,
        models=_narrowest([plan.models for plan in found]),
        caps=tuple(plan.output for plan in found),
        require_stream=any(plan.require_stream for plan in found),
        allow_parameters=frozenset.intersection(*(plan.allow_parameters for plan in found)),
        enforce=any(plan.enforce for plan in found),
        shrink=all(plan.low_budget == "shrink" for plan in found),
        drain=any(plan.on_client_gone == "drain" for plan in found),
        images=tuple(plan.images for plan in found),
        bounds=(
            *_bounds(key.limits, key_limits, (), f"key:{key.id}", f"key '{key.name}'"),
            *_bounds(team.limits, found[0].limits, grants, "team", f"team '{team.name}'"),
        ),
        until=min((g.until for g in grants if g.until is not None), default=math.inf),
    )


def check_standing(access: Access, now: float) -> None:
    """Raise Unauthorized or Forbidden where the key may not be used at `now` (seconds)."""
    if now < access.stands_until:
        return
    key, team = access.key, access.team
    if not access.secrets or key.status == "revoked" or team.status == "deleted":
        raise Unauthorized("This API key has been revoked. Ask your platform team for a new one.")
    for ends in (key.expires_at, *(s.expires_at for s in access.secrets)):
        if ends is not None and now >= ends:
            raise Unauthorized("This API key has expired. Ask your platform team for a new one.")
    if team.status == "paused":
        raise Forbidden(f"The team '{team.name}' is paused. Ask your platform team.")
    if key.status == "paused":
        raise Forbidden(f"The key '{key.name}' is paused. Ask your platform team.")


def _plan(plans: Mapping[str, Plan], name: str, whose: str) -> Plan:
    plan = plans.get(name)
    if plan is None:
        raise Forbidden(
            f"The plan '{name}' of the {whose} is not in this gateway's config. "
            "Ask your platform team."
        )
    return plan


def _narrowest(models: list[frozenset[str]]) -> frozenset[str]:
    named = [names for names in models if ANY_MODEL not in names]
    return frozenset.intersection(*named) if named else frozenset((ANY_MODEL,))


def _bounds(
    own: tuple[Limit, ...],
    plan: tuple[Limit, ...],
    grants: tuple[Grant, ...],
    scope: str,
    owner: str,
) -> list[Bound]:
    bounds = []
    for limit in merge(plan, own):
        mine = [g for g in grants if g.limit.slot == limit.slot]
        latest = max((g.stamp for g in mine), default=-1)
        extra = sum(g.limit.amount for g in mine if g.stamp == latest)
        bounds.append(Bound(limit, scope, owner, extra, latest))
    return bounds
