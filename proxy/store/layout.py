"""What is kept where. All of a team shares its hash tag, so that one script reaches it all."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

#: The layout's version; a gateway refuses a store with another one.
VERSION: Final = 3

SCHEMA: Final = "vg:schema"
IDENTITY: Final = "vg:identity"  # a word that tells this store from others
TEAMS: Final = "vg:teams"
AUDIT: Final = "vg:audit"  # stream: a line for every change of a team, a key or a target
TARGETS: Final = "vg:targets"  # hash: what is switched off, by "model provider"
WORKERS: Final = "vg:workers"  # who lives, by when it was last heard of
CHANGED: Final = "vg:changed"  # pub/sub: the name of a team whose records changed
SWITCHED: Final = "vg:switched"  # pub/sub: a target was switched off or on


@lru_cache(maxsize=4096)
def team_keys(team: str) -> tuple[str, ...]:
    """The six keys of a team, in the order in which the scripts take them."""
    parts = ("records", "counters", "reservations", "leases", "expired", "rows")
    return tuple(f"vg:{{{team}}}:{part}" for part in parts)


def records_key(team: str) -> str:
    return team_keys(team)[0]


def rows_key(team: str) -> str:
    return team_keys(team)[5]


def auth_key(digest: str) -> str:
    """Where a key's digest leads to its team and id; it never changes once written."""
    return f"vg:auth:{digest}"


def key_field(key_id: str) -> str:
    return f"key:{key_id}"
