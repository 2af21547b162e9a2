"""Plans and limits held against the configuration, and changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from proxy.config import Config
from proxy.config.problems import nearest
from proxy.domain.identity import KeyRecord, TeamRecord
from proxy.domain.limits import ANY_MODEL, Limit, merge
from proxy.manage.values import MOST_LABELS, Slot


class Unfit(Exception):
    """What was asked does not make sense; the message says what would.

    `field` names what is wrong, as the admin API has it.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


def check_plan(config: Config, plan: str | None, whose: str = "") -> None:
    """Raises Unfit for a plan that the configuration does not have."""
    if plan is not None and plan not in config.plans:
        has = f"the {whose} has the " if whose else ""
        raise Unfit(f"{has}unknown plan {plan!r}{nearest(plan, config.plans)}", "plan")


def check_limits(config: Config, limits: Iterable[Limit]) -> None:
    """Raises Unfit for an unknown model, and for usd where a model has no price.

    The rules are those of the configuration's own limits.
    """
    for limit in limits:
        if limit.model != ANY_MODEL and limit.model not in config.models:
            near = nearest(limit.model, config.models)
            raise Unfit(f"unknown model {limit.model!r}{near}", "limits")
        if limit.unit == "usd":
            _check_prices(config, limit)


def _check_prices(config: Config, limit: Limit) -> None:
    for name, model in config.models.items():
        if any(target.price is None for target in model.targets):
            raise Unfit(
                f"model {name!r} has no price in the configuration, but '{limit}' counts usd; "
                "a free model's is {input: 0, output: 0}",
                "limits",
            )


def check_labels(labels: Mapping[str, str]) -> None:
    """Raises Unfit for more than a record may hold."""
    if len(labels) > MOST_LABELS:
        raise Unfit(
            f"a team has at most {MOST_LABELS} labels, and would have {len(labels)}", "labels"
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
        except Unfit as error:
            found.append((field, str(error)))
    return found


def changed_limits(
    own: tuple[Limit, ...], add: Sequence[Limit], remove: Sequence[Slot], whose: str
) -> tuple[Limit, ...]:
    """Its own limits without some and with others. Raises Unfit for one it does not have."""
    slots = {limit.slot for limit in own}
    for unit, window, model in remove:
        if (unit, window, model) not in slots:
            known = ", ".join(map(str, own)) or "none"
            of = "" if model == ANY_MODEL else f" on {model}"
            raise Unfit(
                f"the {whose} has no limit of its own of {unit}/{window}{of}; its own: {known}. "
                "A limit of its plan can be replaced with --limit"
            )
    return merge(tuple(limit for limit in own if limit.slot not in remove), tuple(add))
