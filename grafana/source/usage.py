"""Usage: who spends what, and how near to the limits."""

from __future__ import annotations

from typing import Final

from grafana.source.layout import link, make
from grafana.source.panels import (
    SHARE_OF_LIMIT,
    Json,
    bars,
    graph,
    query,
    stat,
    table,
)
from grafana.source.queries import Queries

_Q: Final = Queries("team", "model")
_EXACT: Final = (
    "Differences of the gateways' counters, which rise as the ledger charges: exact up to the last "
    "minute. Where a gateway was restarted under the same address within the time shown, the part "
    "before is Prometheus' estimate (`increase`). The ledger is the book of record: "
    "`visiongate usage`."
)
_TODAY, _MONTH = "now/d", "now/M"
_SINCE: Final = (
    " A fixed time range (not one up to now) overrides it. Prometheus must keep so many days."
)
_LIMITS: Final = (
    "From the ledger itself, reserved amounts included, shown by every gateway within seconds. Not "
    "among them are limits on one model and keys' own: `visiongate key show --effective`."
)
_NO_LIMIT: Final = "no team chosen here has a limit"
_NOTHING: Final = "nothing was charged in this time"


def dashboard() -> Json:
    return make(
        "usage",
        "Usage",
        "Tokens, USD and requests by team, key and model, against the limits.",
        _Q.variables,
        [
            ("At a glance", [(4, _glance())]),
            ("Limits", [(9, [_nearest(), _limits()])]),
            ("Spending", [(9, [_a_day()]), (9, [_spenders(), _keys()])]),
            ("Models", [(8, _models())]),
            ("Rates", [(8, _rates()), (8, _parts())]),
        ],
        since="now-24h",
    )


def _used(*, by: str = "") -> str:
    """How much of each limit is used; a limit that was taken away has the amount 0."""
    labels = "team, unit, window"
    found = f"max by ({labels}) ({_Q.series('limit_used')} / ({_Q.series('limit_amount')} > 0))"
    return f"max by ({by}) ({found})" if by else found


def _glance() -> list[Json]:
    cost = _Q.counted("cost_usd_total", recorded=True)
    refused = _Q.counted("rejections_total", 'reason="budget"')
    return [
        stat("USD today", _EXACT + _SINCE, cost, "currencyUSD", since=_TODAY, decimals=2),
        stat("USD this month", _EXACT + _SINCE, cost, "currencyUSD", since=_MONTH, decimals=2),
        stat("Tokens today", _EXACT, _Q.counted("tokens_total", recorded=True), since=_TODAY),
        stat(
            "Requests today",
            _EXACT,
            _Q.counted("requests_total", 'provider!=""', recorded=True),
            since=_TODAY,
        ),
        stat(
            "Nearest limit",
            "The largest share of a limit that any team chosen here has used. " + _LIMITS,
            f"topk(1, {_used()})",
            "percentunit",
            none="no limits",
            steps=SHARE_OF_LIMIT,
            legend="{{team}}: {{unit}}/{{window}}",
        ),
        stat(
            "Refused for budget",
            "Requests refused because a day's, month's or other calendar limit was used up, in the "
            "time shown.",
            refused,
            steps=((None, "green"), (1, "orange")),
            decimals=0,
        ),
    ]


def _nearest() -> Json:
    made = bars(
        "Nearest to their limit",
        "The 20 limits with the least left; orange from 80%, red from 95%, as the alerts are. "
        + _LIMITS,
        f"topk(20, {_used()})",
        "{{team}}: {{unit}}/{{window}}",
        "percentunit",
        none=_NO_LIMIT,
        steps=SHARE_OF_LIMIT,
        most=1,
    )
    url = "/d/visiongate-usage?var-team=${__field.labels.team}&${datasource:queryparam}"
    made["fieldConfig"]["defaults"]["links"] = [link("This team alone", url=url)]
    return made


def _limits() -> Json:
    def most(metric: str) -> str:
        return f"max by (team, unit, window) ({_Q.series(metric)})"

    amount, used = f"({most('limit_amount')} > 0)", most("limit_used")
    return table(
        "Limits",
        "All limits of the teams chosen. `minute` is a bucket that leaks, the others are calendar "
        "windows in UTC; `concurrent` has no window. " + _LIMITS,
        {"team": "Team", "unit": "Unit", "window": "Window"},
        [
            ("Amount", amount, "short"),
            ("Used", f"{used} and {amount}", "short"),
            ("Left", f"clamp_min({amount} - {used}, 0)", "short"),
            ("Share", _used(), "percentunit"),
        ],
        none=_NO_LIMIT,
        sort="Share",
        steps={"Share": SHARE_OF_LIMIT},
    )


def _a_day() -> Json:
    cost = _Q.counted("cost_usd_total", by="team", recorded=True, days=True)
    return graph(
        "USD a day, by team",
        "Each bar is a day in UTC, from its beginning on; the last is today so far. " + _EXACT,
        [query(f"{cost} > 0", "{{team}}")],
        "currencyUSD",
        none=_NOTHING,
        stacked=True,
        days=31,
    )


def _spenders() -> Json:
    def of(metric: str, *where: str) -> str:
        return _Q.counted(metric, *where, by="team", recorded=True) + " > 0"

    return table(
        "Top spenders",
        "Teams, in the time shown. " + _EXACT,
        {"team": "Team"},
        [
            ("USD", of("cost_usd_total"), "currencyUSD"),
            ("Input tokens", of("tokens_total", 'kind="input"'), "short"),
            ("Output tokens", of("tokens_total", 'kind="output"'), "short"),
            ("Requests", of("requests_total", 'provider!=""'), "short"),
        ],
        none=_NOTHING,
        sort="USD",
    )


def _keys() -> Json:
    cost = _Q.counted("cost_usd_total", by="team, key")
    tokens = _Q.counted("tokens_total", by="team, key")
    return table(
        "Top keys",
        "The 50 keys that cost the most in the time shown; choose a team for more. `other` is all "
        "keys beyond `metrics.max_keys`. Over many thousands of keys and a month this one is slow: "
        "it is the only one that reads them all. " + _EXACT,
        {"team": "Team", "key": "Key"},
        [
            ("USD", f"topk(50, {cost}) > 0", "currencyUSD"),
            ("Tokens", f"topk(50, {tokens}) > 0", "short"),
        ],
        none=_NOTHING,
        sort="USD",
    )


def _models() -> list[Json]:
    def of(metric: str) -> str:
        return f"{_Q.counted(metric, by='model', recorded=True)} > 0"

    text = "In the time shown. " + _EXACT
    usd, tokens = of("cost_usd_total"), of("tokens_total")
    return [
        bars("USD by model", text, usd, "{{model}}", "currencyUSD", none=_NOTHING),
        bars("Tokens by model", text, tokens, "{{model}}", none=_NOTHING),
        bars(
            "Requests by model",
            "Whatever was answered; those without a model, such as ones without a key, are left "
            "out. " + text,
            _Q.counted("requests_total", 'model!=""', by="model", recorded=True) + " > 0",
            "{{model}}",
            none="nothing was asked in this time",
        ),
    ]


def _rates() -> list[Json]:
    quiet = "nothing was charged lately"
    return [
        graph(
            "USD an hour, by team",
            "At the pace of the moment.",
            [query(f"3600 * {_Q.rate('cost_usd_total', by='team')}", "{{team}}")],
            "currencyUSD",
            none=quiet,
            stacked=True,
        ),
        graph(
            "Tokens a second",
            "Input and output, as charged.",
            [query(_Q.rate("tokens_total", by="kind"), "{{kind}}")],
            none=quiet,
            colours=("input", "output"),
            stacked=True,
        ),
        graph(
            "Requests a second, by provider",
            "Those that came as far as a provider, whatever it answered.",
            [query(_Q.rate("requests_total", 'provider!=""', by="provider"), "{{provider}}")],
            "reqps",
            none="nothing was asked lately",
            stacked=True,
        ),
    ]


def _parts() -> list[Json]:
    quiet = "nothing was charged lately"
    total = _Q.rate("tokens_total", 'kind="input"')
    estimated = _Q.rate("tokens_total", 'source="estimated"')
    return [
        graph(
            "Parts of the input",
            "What share of the input tokens was read from the provider's cache, and what share "
            "was images.",
            [
                query(f"{_Q.rate('cached_tokens_total')} / {total}", "cached"),
                query(f"{_Q.rate('image_tokens_total')} / {total}", "images"),
            ],
            "percentunit",
            none=quiet,
        ),
        graph(
            "Charged by estimate",
            "The share of tokens that no provider confirmed: a stream that was broken off, or a "
            "provider that reports no usage. They are charged by our own count.",
            [query(f"{estimated} / {_Q.rate('tokens_total')}", "estimated")],
            "percentunit",
            none="no charge was estimated",
        ),
        graph(
            "Refused, by reason",
            "Refusals of teams' requests: `budget` is a limit that is used up, `rate_limit` one "
            "that refills.",
            [query(_Q.rate("rejections_total", 'team!=""', by="reason"), "{{reason}}")],
            "reqps",
            none="nothing was refused",
            stacked=True,
        ),
    ]
