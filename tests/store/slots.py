"""A slot of a cluster on its way from one primary to another."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from proxy.store.layout import records_key
from tests.valkey import Primary, ValkeyCluster, wait_for


@contextlib.contextmanager
def on_its_way(cluster: ValkeyCluster, team: str) -> Iterator[tuple[Primary, Primary, int]]:
    """A team's slot, empty, that wanders from one primary to another and back.

    Whose claim is the youngest gets a slot (https://valkey.io/topics/cluster-spec/): the third
    primary would give it to the other one again, as long as it knows of nothing younger.
    """
    source = cluster.owner(records_key(team))
    target = next(primary for primary in cluster.primaries if primary is not source)
    slot = source.say("CLUSTER", "KEYSLOT", records_key(team))
    target.say("CLUSTER", "SETSLOT", slot, "IMPORTING", source.say("CLUSTER", "MYID"))
    source.say("CLUSTER", "SETSLOT", slot, "MIGRATING", target.say("CLUSTER", "MYID"))
    try:
        yield source, target, slot
    finally:
        target.say("FLUSHALL")
        wait_for(lambda: is_back(cluster, slot, source, target))
        for primary in (source, target):
            primary.say("CLUSTER", "SETSLOT", slot, "STABLE")


def is_back(cluster: ValkeyCluster, slot: int, source: Primary, target: Primary) -> bool:
    """Give a slot back, which may take more than once; whether all know, and it will stay there."""
    source.say("CLUSTER", "BUMPEPOCH")
    for primary in (source, target):
        primary.say("CLUSTER", "SETSLOT", slot, "NODE", source.say("CLUSTER", "MYID"))
    younger = epoch(source) > epoch(target)
    return younger and all(told(primary, slot) == source.port for primary in cluster.primaries)


def epoch(primary: Primary) -> int:
    lines = str(primary.say("CLUSTER", "INFO")).splitlines()
    return int(dict(line.split(":") for line in lines)["cluster_my_epoch"])


def told(primary: Primary, slot: int) -> int:
    """The port of whom a primary takes for a slot's."""
    ranges = primary.say("CLUSTER", "SLOTS")
    return next((node[1] for first, last, node, *_ in ranges if first <= slot <= last), 0)
