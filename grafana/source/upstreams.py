"""Upstreams: how each provider and target does."""

from __future__ import annotations

from typing import Final

from grafana.source.layout import make
from grafana.source.panels import (
    NONE_IS_WELL,
    SHARE_FAILED,
    Json,
    graph,
    heatmap,
    query,
    stat,
    table,
    timeline,
)
from grafana.source.queries import Queries

_Q: Final = Queries("model", "provider")
#: Of all providers, as tokens are counted.
_ALL: Final = Queries("model")
_QUIET: Final = "no provider was asked lately"
_FIRST: Final = "time_to_first_token_seconds"

#: Outcomes that are a provider's fault: refusals, clients that left and our own stops are none.
_FAULT: Final = 'outcome=~"upstream_failed|upstream_timeout|maybe_billed"'


def dashboard() -> Json:
    return make(
        "upstreams",
        "Upstreams",
        "Per provider and target: attempts, failures, breakers, latency, tokens per second.",
        _Q.variables,
        [
            ("At a glance", [(4, _glance())]),
            ("Targets", [(9, [_states()])]),
            ("Attempts", [(8, _attempts()), (9, [_outcomes()])]),
            ("Speed", [(8, _latency()), (8, _speed())]),
        ],
        since="now-3h",
    )


def _failed(by: str = "") -> str:
    faults, all = (_Q.rate("upstream_attempts_total", x, by=by) for x in (_FAULT, 'outcome!=""'))
    none = f"0 * {all}" if by else "vector(0)"
    return f"({faults} or {none}) / {all}"


def _glance() -> list[Json]:
    return [
        stat(
            "Targets out",
            "That some gateway sends nothing to, for now: its breaker is open, all its keys step "
            "aside, or an operator has switched it off.",
            f"count(min by (provider, model) ({_Q.series('target_available')}) == 0) or vector(0)",
            steps=NONE_IS_WELL,
        ),
        stat(
            "Attempts a second",
            "Requests sent to providers, those that were followed by another included.",
            _Q.rate("upstream_attempts_total"),
            "reqps",
        ),
        stat(
            "Failed attempts",
            "The share that a provider failed: no connection, a time-out, a 5xx, a stream that "
            "broke. A refusal (4xx) is none.",
            _failed(),
            "percentunit",
            steps=SHARE_FAILED,
            none=_QUIET,
        ),
        stat(
            "Maybe billed",
            "Attempts in the time shown that were sent, gave nothing and were followed by another: "
            "the provider may bill them, no client was charged.",
            _Q.counted("upstream_attempts_total", 'outcome="maybe_billed"'),
            steps=((None, "green"), (1, "orange")),
            decimals=0,
        ),
        stat(
            "First token, p95",
            "Of streams, all targets together.",
            _Q.quantile(0.95, _FIRST),
            "s",
            none="no stream lately",
            steps=((None, "green"), (5, "orange"), (10, "red")),
        ),
    ]


def _states() -> Json:
    return timeline(
        "Targets",
        "A target is out where any worker of any gateway finds it so. Breakers are each worker's "
        "own knowledge; `visiongate target list` shows what was switched off.",
        f"min by (provider, model) ({_Q.series('target_available')})",
        "{{provider}}: {{model}}",
        {"1": ("available", "green"), "0": ("out", "red")},
        none="no gateway is scraped",
    )


def _attempts() -> list[Json]:
    all = 'outcome!=""'
    return [
        graph(
            "Attempts a second, by provider",
            "Retries and failovers included.",
            [query(_Q.rate("upstream_attempts_total", all, by="provider"), "{{provider}}")],
            "reqps",
            none=_QUIET,
            stacked=True,
        ),
        graph(
            "Failures a second",
            "By provider and how the attempt ended.",
            [
                query(
                    _Q.rate("upstream_attempts_total", _FAULT, by="provider, outcome"),
                    "{{provider}}: {{outcome}}",
                )
            ],
            "reqps",
            none="no attempt failed",
        ),
        graph(
            "Failed attempts, by provider",
            "The share that the provider failed.",
            [query(_failed("provider"), "{{provider}}")],
            "percentunit",
            none=_QUIET,
            steps=((None, "transparent"), (0.05, "red")),
        ),
    ]


def _outcomes() -> Json:
    return table(
        "Attempts by outcome",
        "In the time shown. `maybe_billed` was followed by another attempt; `upstream_refused` is "
        "the provider's own 4xx.",
        {"provider": "Provider", "outcome": "Outcome"},
        [
            (
                "Attempts",
                f"{_Q.counted('upstream_attempts_total', by='provider, outcome')} > 0",
                "short",
            )
        ],
        none="no provider was asked in this time",
        sort="Attempts",
    )


def _latency() -> list[Json]:
    both = "provider, model"
    return [
        graph(
            "Time to first token, p95",
            "By provider and model, of streams.",
            [query(_Q.quantile(0.95, _FIRST, by=both), "{{provider}}: {{model}}")],
            "s",
            none="no stream lately",
        ),
        graph(
            "Request time, p95",
            "By provider and model, from the request's head to the answer's end.",
            [query(_Q.quantile(0.95, "request_seconds", by=both), "{{provider}}: {{model}}")],
            "s",
            none=_QUIET,
        ),
        graph(
            "Requests a second, by target",
            "By whom they were answered in the end.",
            [
                query(
                    _Q.rate("requests_total", 'provider!=""', by=both),
                    "{{provider}}: {{model}}",
                )
            ],
            "reqps",
            none=_QUIET,
            stacked=True,
        ),
    ]


def _speed() -> list[Json]:
    output = _ALL.rate("tokens_total", 'kind="output"', by="model")
    return [
        graph(
            "Output tokens a second, of one request",
            "By model: output tokens, divided by the time that requests took. Of all providers, "
            "whichever is chosen: tokens are not counted by provider.",
            [query(f"{output} / {_ALL.rate('request_seconds_sum', by='model')}", "{{model}}")],
            none=_QUIET,
        ),
        graph(
            "Output tokens a second, in all",
            "By model, of all providers.",
            [query(output, "{{model}}")],
            none=_QUIET,
            stacked=True,
        ),
        heatmap(
            "Gaps between chunks",
            "How many gaps were how long; narrow it by the variables above.",
            f"sum by (le) (increase({_Q.series('chunk_gap_seconds_bucket')}[$__rate_interval]))",
            "s",
            none="no stream lately",
        ),
    ]
