"""`visiongate audit`."""

from __future__ import annotations

import time
from argparse import Namespace
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from proxy.cli.output import show_json, show_table
from proxy.cli.session import Session, in_session
from proxy.manage.transfer import worded
from proxy.store.audit import read_audit

_WEEK: Final = 7 * 86_400


@in_session
async def show(args: Namespace, s: Session) -> None:
    since = int(time.time()) - _WEEK if args.since is None else args.since
    lines = await read_audit(s.store, since, args.team)
    if args.json:
        show_json(lines)
        return
    rows = [{**line, "changes": _changes(line)} for line in lines]
    columns = ("time", "actor", "action", "team", "key", "name", "changes")
    show_table(columns, rows, empty="no changes in this time")


def _changes(line: Mapping[str, Any]) -> str:
    """`limits: 50 usd/month -> 80 usd/month; plan: default -> standard`; of lists what differs."""
    old, new = line["before"], line["after"]
    if not old:  # made, with this
        return "; ".join(f"{n}: {worded(v)}" for n, v in new.items() if v not in (None, [], {}))
    return "; ".join(f"{name}: {_change(old.get(name), value)}" for name, value in new.items())


def _change(was: Any, now: Any) -> str:
    if isinstance(was, list) and isinstance(now, list):
        before, after = Counter(was), Counter(now)
        was, now = list((before - after).elements()), list((after - before).elements())
    return f"{worded(was)} -> {worded(now)}"
