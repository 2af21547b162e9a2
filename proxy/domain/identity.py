"""Teams and keys as the store keeps them.

A record is changed by replacing it whole, and the ledger compares records byte for byte:
one encoding, so that equal records are equal bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from proxy.domain.limits import Limit

DEFAULT_PLAN = "default"


class Grant(msgspec.Struct, frozen=True):
    """An extra amount for one window: `stamp` names it, as the ledger's scripts do.

    `until`: seconds since 1970; it ends then. Where that is after its window, what is left of
    it goes on in the next one. None: it ends with its window, or never where that is total.
    """

    limit: Limit
    stamp: int
    until: int | None = None

    def live(self, now: float) -> bool:
        """Whether it has not ended at `now` (seconds); its window may be over all the same."""
        return self.until is None or now < self.until


class TeamRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A team. `status`: active, paused or deleted; times are in seconds since 1970."""

    name: str
    plan: str = DEFAULT_PLAN
    status: str = "active"
    limits: tuple[Limit, ...] = ()
    grants: tuple[Grant, ...] = ()
    labels: dict[str, str] = {}
    created_at: int


class Secret(msgspec.Struct, frozen=True):
    """A key's secret at rest. `hint` is its end, for people to tell keys apart."""

    digest: str
    hint: str
    expires_at: int | None = None


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A key of a team. `status`: active, paused or revoked."""

    id: str
    team: str
    name: str
    plan: str | None = None
    status: str = "active"
    limits: tuple[Limit, ...] = ()
    secrets: tuple[Secret, ...] = ()
    created_at: int
    expires_at: int | None = None


encode_record = msgspec.json.Encoder(order="deterministic").encode
decode_team = msgspec.json.Decoder(TeamRecord).decode
decode_key = msgspec.json.Decoder(KeyRecord).decode


@dataclass(frozen=True)
class Bound:
    """A limit and whom it binds; `grant` adds to it in the window that `stamp` names."""

    limit: Limit
    scope: str
    owner: str
    grant: int = 0
    stamp: int = -1
