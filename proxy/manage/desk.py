"""What can be done to teams and keys: the directory's changes, held against the configuration."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from msgspec.structs import replace

from proxy.access import Plan, open_access
from proxy.config import Config
from proxy.domain.identity import Grant, KeyRecord, TeamRecord, encode_record
from proxy.domain.limits import LARGEST, Limit, format_amount, merge
from proxy.domain.windows import window_end
from proxy.manage.checks import Unfit, check_labels, check_limits, check_plan
from proxy.manage.targets import TargetDesk
from proxy.store.client import Store
from proxy.store.directory import Directory, DirectoryError, NewKey
from proxy.store.grants import give
from proxy.store.keyring import KeyRing
from proxy.store.ledger import Ledger
from proxy.store.shapes import key_shape, limit_shape, source_of, team_shape, when
from proxy.store.switches import SwitchBoard

OVERLAP: Final = 86_400  # seconds that a rotated key's old secret goes on

ChangeTeam = Callable[[TeamRecord], TeamRecord]
ChangeKey = Callable[[KeyRecord], KeyRecord]
Record = TeamRecord | KeyRecord


@dataclass(frozen=True, slots=True)
class Desk:
    """A store's teams and keys under a configuration. `plans` are the configuration's.

    Every method may raise StoreUnavailable; DirectoryError where the store's records do not
    allow it, Unfit where the configuration does not.
    """

    store: Store
    directory: Directory
    config: Config
    plans: Mapping[str, Plan]

    async def create_team(
        self, name: str, plan: str, limits: Sequence[Limit], labels: dict[str, str]
    ) -> TeamRecord:
        check_plan(self.config, plan)
        check_limits(self.config, limits)
        check_labels(labels)
        return await self.directory.create_team(
            name, plan=plan, limits=merge((), tuple(limits)), labels=labels
        )

    async def change_team(self, name: str, change: ChangeTeam) -> TeamRecord:
        def checked(team: TeamRecord) -> TeamRecord:
            new = change(team)
            self._check_change(team, new)
            check_labels(new.labels)
            return new

        return await self.directory.change_team(name, checked)

    async def team_detail(self, name: str) -> dict[str, Any]:
        """A team with every limit of it, what is used of each, and its keys."""
        team = await self.directory.team(name)
        keys = [key_shape(key) for key in await self.directory.keys(team.name)]
        return {**team_shape(team), "effective": await self.team_limits(team), "keys": keys}

    async def grant(self, name: str, extra: Limit, until: int | None) -> TeamRecord:
        """Give a team more, once, until a time (seconds since 1970; None: the end of the window
        of the limit that it adds to). An amount without a window adds to the only limit of its
        unit and model.
        """
        if extra.window == "minute" or extra.unit == "concurrent":
            raise Unfit(
                f"nothing can be added for a while to '{extra}', which has no window; "
                f"change the limit: visiongate team set {name} --limit '{extra}'",
                "amount",
            )
        team = await self.directory.team(name)
        check_plan(self.config, team.plan, f"team '{team.name}'")
        limits = merge(self.config.plans[team.plan].limits, team.limits)
        extra = _addition(team.name, limits, extra)
        _check_size(extra, limits, team.grants)
        ends = window_end(extra.window, int(time.time() * 1000))
        if extra.window == "hour" and until and ends and until * 1000 > ends:
            raise Unfit(
                f"what is added to {extra.unit}/hour ends with the hour, at "
                f"{when(ends // 1000)}: usage is kept by the day, so what is left of it could not "
                "be told later. Leave out until, or change the limit",
                "until",
            )
        return await give(self.store, self.directory, team.name, extra, until)

    async def create_key(
        self,
        team: str,
        name: str,
        plan: str | None,
        limits: Sequence[Limit],
        expires_at: int | None,
    ) -> NewKey:
        check_plan(self.config, plan)
        check_limits(self.config, limits)
        return await self.directory.create_key(
            team, name, plan=plan, limits=merge((), tuple(limits)), expires_at=expires_at
        )

    async def change_key(self, name: str, team: str | None, change: ChangeKey) -> KeyRecord:
        def checked(key: KeyRecord) -> KeyRecord:
            if key.status == "revoked":
                raise DirectoryError(
                    f"the key '{key.name}' was revoked, which is for good; make another: "
                    f"visiongate key create --team {key.team} --name NAME",
                    "key",
                )
            new = change(key)
            self._check_change(key, new)
            return new

        key = await self.directory.key(name, team)
        return await self.directory.change_key(key.team, key.id, checked)

    async def revoke(self, name: str, team: str | None) -> KeyRecord:
        """Stop a key for good; one that was revoked stays so."""
        key = await self.directory.key(name, team)
        return await self.directory.change_key(
            key.team, key.id, lambda k: replace(k, status="revoked")
        )

    async def key_detail(self, name: str, team: str | None, effective: bool) -> dict[str, Any]:
        """A key with the ends of its secrets; `effective`: with every limit that binds it."""
        key = await self.directory.key(name, team)
        secrets = [{"ends_in": x.hint, "expires_at": when(x.expires_at)} for x in key.secrets]
        shape = {**key_shape(key), "secrets": secrets}
        return {**shape, "effective": await self.key_limits(key)} if effective else shape

    @property
    def targets(self) -> TargetDesk:
        """The configuration's targets, and what of them is off."""
        return TargetDesk(SwitchBoard(self.store, self.directory.audit), self.config)

    async def team_limits(self, team: TeamRecord) -> list[dict[str, Any]]:
        """Every limit of a team, with what is used of it."""
        nobody = KeyRecord(id="", team=team.name, name="", created_at=0)
        return await self._limits(team, nobody, "team")

    async def key_limits(self, key: KeyRecord) -> list[dict[str, Any]]:
        """Every limit that binds a key, its own and its team's, with what is used of it."""
        return await self._limits(await self.directory.team(key.team), key, "")

    async def _limits(self, team: TeamRecord, key: KeyRecord, scope: str) -> list[dict[str, Any]]:
        check_plan(self.config, team.plan, f"team '{team.name}'")
        check_plan(self.config, key.plan, f"key '{key.name}'")
        blobs = encode_record(team), encode_record(key)
        access = open_access("", *blobs, self.plans, time.time())
        bounds = tuple(b for b in access.bounds if scope in ("", b.scope))
        ledger = Ledger(self.store, KeyRing(self.store, (), self.plans))  # it only reads
        now, states = await ledger.peek(team.name, bounds)
        shapes = []
        for state in states:
            whose: Record = team if state.bound.scope == "team" else key
            source = source_of(state.bound, whose.limits, whose.plan)
            shapes.append(limit_shape(state, source, now))
        return shapes

    def _check_change(self, old: Record, new: Record) -> None:
        """What a change brings in must be in the configuration; what was there may be gone."""
        if new.plan != old.plan:
            check_plan(self.config, new.plan)
        check_limits(self.config, [limit for limit in new.limits if limit not in old.limits])


def new_key_shape(made: NewKey) -> dict[str, Any]:
    """A key with its secret, which is shown this once."""
    shape = key_shape(made.record)
    return {"id": shape.pop("id"), "key": made.secret, **shape}


def _check_size(extra: Limit, limits: Sequence[Limit], grants: Sequence[Grant]) -> None:
    """There must be some, and what all of them come to must be counted exactly."""
    if not extra.amount:
        raise Unfit(f"'{extra}' adds nothing; give an amount above 0", "amount")
    given = [grant.limit for grant in grants]
    whole = extra.amount + sum(x.amount for x in (*limits, *given) if x.slot == extra.slot)
    if whole > LARGEST:
        most = format_amount(LARGEST, extra.unit)
        raise Unfit(
            f"'{extra}' is too large: with the limit and what was granted before it may come to "
            f"{most} at most",
            "amount",
        )


def _addition(team: str, limits: Sequence[Limit], extra: Limit) -> Limit:
    """The amount in the window of the limit that it adds to."""
    if any(limit.slot == extra.slot for limit in limits):
        return extra
    alike = [
        limit
        for limit in limits
        if (limit.unit, limit.model) == (extra.unit, extra.model) and limit.window != "minute"
    ]
    if extra.window != "total" or not alike:
        known = ", ".join(map(str, limits)) or "none"
        raise Unfit(
            f"the team '{team}' has no limit that '{extra}' could be added to; its limits: {known}",
            "amount",
        )
    choices = [Limit(extra.amount, *limit.slot) for limit in alike]
    if len(choices) > 1:
        forms = " or ".join(f"'{choice}'" for choice in choices)
        raise Unfit(f"the team '{team}' has several limits of {extra.unit}: say {forms}", "amount")
    return choices[0]
