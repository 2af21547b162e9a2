"""Service: does the gateway answer, how fast, and what it costs itself."""

from __future__ import annotations

from typing import Final

from grafana.source.layout import make
from grafana.source.panels import (
    CLASSES,
    NONE_IS_WELL,
    QUANTILES,
    SHARE_FAILED,
    Json,
    graph,
    heatmap,
    quantiles,
    query,
    stat,
    table,
)
from grafana.source.queries import Queries

_Q: Final = Queries("team", "model", "provider")
_STATUS: Final = 'status=~"{}.."'
_QUIET: Final = "no requests lately"
_NO_STREAM: Final = "no stream lately"


def dashboard() -> Json:
    return make(
        "service",
        "Service",
        "Rates, errors, time to first token, gaps, the gateway's own time, its store and workers. "
        "A team narrows requests and refusals only, a model and a provider times as well.",
        _Q.variables,
        [
            ("At a glance", [(4, _glance()), (4, _state())]),
            ("Requests", [(8, _requests())]),
            ("Streams", [(8, _first()), (8, _streams())]),
            ("The gateway's own time", [(8, _own())]),
            ("Store", [(8, _store())]),
            ("Processes", [(8, _processes())]),
        ],
        since="now-3h",
    )


def _failed() -> str:
    """What share of the answers is a failure of ours or a provider's."""
    failed = _Q.rate("requests_total", 'status=~"5.."')
    return f"({failed} or vector(0)) / {_Q.rate('requests_total')}"


def _glance() -> list[Json]:
    first = "time_to_first_token_seconds"
    return [
        stat("Requests a second", "All that is answered.", _Q.rate("requests_total"), "reqps"),
        stat(
            "Failed",
            "The share of answers with a status of 500 and above, of us or of a provider. A stream "
            "that breaks after its first byte is none of them: see how streams ended.",
            _failed(),
            "percentunit",
            steps=SHARE_FAILED,
            none=_QUIET,
        ),
        stat(
            "First token, p95",
            "From a request's head to the first bytes of the answer, of streams.",
            _Q.quantile(0.95, first),
            "s",
            none=_NO_STREAM,
            steps=((None, "green"), (5, "orange"), (10, "red")),
        ),
        stat("Streams open", "Now, of all workers.", f"sum({_Q.series('streams_active')})"),
        stat("Workers", "That live, of all gateways.", f"sum({_Q.series('workers')})", none="none"),
    ]


def _state() -> list[Json]:
    return [
        stat(
            "Store errors",
            "Times that the store could not be reached, in the time shown; a gateway that nobody "
            "asks tries every five seconds.",
            _Q.counted("store_errors_total"),
            steps=NONE_IS_WELL,
            decimals=0,
        ),
        stat(
            "Journal",
            "Charges on disk that wait for the store, now.",
            f"sum({_Q.series('journal_entries')})",
            steps=NONE_IS_WELL,
        ),
        stat(
            "Alarms",
            "What an operator must look into, in the time shown: see below which.",
            f"{_Q.counted('alarms_total')} or vector(0)",
            steps=NONE_IS_WELL,
            decimals=0,
        ),
        stat(
            "Configurations",
            "In use; two for as long as streams of an older one go on, or where gateways differ.",
            f"count(count by (hash) ({_Q.series('config_info')} > 0))",
            none="none",
            steps=((None, "green"), (2, "orange")),
        ),
        stat(
            "Releases",
            "Running side by side; more than one only during an upgrade.",
            f"count(count by (version) ({_Q.series('build_info')} > 0))",
            none="none",
            steps=((None, "green"), (2, "orange")),
        ),
        stat(
            "Youngest gateway",
            "Since when it counts: its counters began at 0 then.",
            f"time() - max({_Q.series('start_time_seconds')})",
            "s",
            none="none",
        ),
    ]


def _requests() -> list[Json]:
    by_class = " or ".join(
        f'label_replace({_Q.rate("requests_total", _STATUS.format(n))}, "class", "{n}xx", "", "")'
        for n in (2, 3, 4, 5)
    )
    return [
        graph(
            "Answers a second",
            "By the class of their status.",
            [query(by_class, "{{class}}")],
            "reqps",
            none=_QUIET,
            colours=CLASSES,
            stacked=True,
        ),
        graph(
            "Errors a second, by status",
            "Each status from 400 on.",
            [query(_Q.rate("requests_total", 'status=~"[45].."', by="status"), "{{status}}")],
            "reqps",
            none="no errors",
        ),
        graph(
            "Refused here, by reason",
            "What the gateway refused itself, before a provider was asked. `observed_…`: it would "
            "have been, were the plan enforced.",
            [query(_Q.rate("rejections_total", by="reason"), "{{reason}}")],
            "reqps",
            none="nothing was refused",
        ),
    ]


def _gateways(title: str, text: str, metric: str) -> Json:
    """A gauge, by gateway."""
    found = query(f"sum by (instance) ({_Q.series(metric)})", "{{instance}}")
    return graph(title, text, [found], none="no gateway is scraped", stacked=True)


def _first() -> list[Json]:
    first = "time_to_first_token_seconds"
    return [
        graph(
            "Time to first token",
            "Of streams, from the request's head to the first bytes of the answer.",
            quantiles(lambda share: _Q.quantile(share, first), 0.5, 0.95, 0.99),
            "s",
            none=_NO_STREAM,
            colours=QUANTILES,
        ),
        heatmap(
            "Time to first token, all",
            "How many streams had their first bytes within which time.",
            f"sum by (le) (increase({_Q.series(f'{first}_bucket')}[$__rate_interval]))",
            "s",
            none=_NO_STREAM,
        ),
        graph(
            "Request time",
            "From a request's head to its answer's end, streams and others.",
            quantiles(lambda share: _Q.quantile(share, "request_seconds"), 0.5, 0.95, 0.99),
            "s",
            none=_QUIET,
            colours=QUANTILES,
        ),
    ]


def _streams() -> list[Json]:
    return [
        graph(
            "Gaps between chunks",
            "How long a stream is silent between two pieces: the provider's pace, and any stall of "
            "ours.",
            quantiles(lambda share: _Q.quantile(share, "chunk_gap_seconds"), 0.5, 0.95, 0.99),
            "s",
            none=_NO_STREAM,
            colours=QUANTILES,
        ),
        _gateways("Streams open, by gateway", "Answers under way.", "streams_active"),
        graph(
            "Streams ended, by reason",
            "`complete` is whole, `client_gone` left, `slow_client` did not read on; all others "
            "ended with an error event.",
            [query(_Q.rate("streams_ended_total", by="reason"), "{{reason}}")],
            "ops",
            none=_NO_STREAM,
            colours=("complete", "client_gone"),
            stacked=True,
        ),
    ]


def _own() -> list[Json]:
    return [
        graph(
            "Mean time by stage",
            "Where a request's time in the gateway goes before the provider is asked. `read` waits "
            "for the client's body, `images` for the images' servers.",
            [query(_Q.mean("overhead_seconds", by="stage"), "{{stage}}")],
            "s",
            none=_QUIET,
            stacked=True,
        ),
        graph(
            "p99 by stage",
            "The slow ones.",
            [query(_Q.quantile(0.99, "overhead_seconds", by="stage"), "{{stage}}")],
            "s",
            none=_QUIET,
        ),
    ]


def _store() -> list[Json]:
    return [
        graph(
            "Script time, p99",
            "From the call to its answer, by script.",
            [query(_Q.quantile(0.99, "store_seconds", by="op"), "{{op}}")],
            "s",
            none="no script was run",
        ),
        graph(
            "Scripts a second",
            "Of all gateways together.",
            [query(_Q.rate("store_seconds_count", by="op"), "{{op}}")],
            "ops",
            none="no script was run",
            stacked=True,
        ),
        graph(
            "Store errors, journal",
            "Failures to reach the store, a second, and the charges that wait for it on disk.",
            [
                query(_Q.rate("store_errors_total"), "errors a second"),
                query(f"sum({_Q.series('journal_entries')})", "journal"),
            ],
            none="no gateway is scraped",
        ),
        _gateways("Tokens reserved, by gateway", "For what is in flight.", "tokens_reserved"),
    ]


def _processes() -> list[Json]:
    def each(metric: str, *labels: str) -> str:
        return f"max by ({', '.join(('instance', *labels))}) ({_Q.series(metric)})"

    return [
        _gateways("Workers, by gateway", "One that dies is replaced at once.", "workers"),
        table(
            "Gateways",
            "Since when each counts, its release and its configuration.",
            {"instance": "Gateway", "version": "Release", "hash": "Configuration"},
            [
                (
                    "Up for",
                    f"time() - {each('start_time_seconds')} * on (instance) "
                    f"group_right {each('build_info', 'version')} * on (instance) "
                    f"group_right (version) {each('config_info', 'hash')}",
                    "s",
                ),
            ],
            none="no gateway is scraped",
            sort="Gateway",
        ),
        graph(
            "Alarms, by event",
            "How many within an hour; the runbook tells of each.",
            [query(f"sum by (event) (increase({_Q.series('alarms_total')}[1h])) > 0", "{{event}}")],
            none="no alarm",
        ),
    ]
