"""PromQL. A metric is named without its "visiongate_", and filtered by the variables that it knows.

Source: https://prometheus.io/docs/prometheus/latest/querying/
"""

from __future__ import annotations

from typing import Final

from proxy.metrics import Metrics

PREFIX: Final = "visiongate_"

#: The variables of the dashboards that are labels, in their order; every series has a job.
VARIABLES: Final = ("team", "model", "provider")

#: A metric's labels by its name without a suffix.
LABELS: Final[dict[str, tuple[str, ...]]] = {
    collector._name.removeprefix(PREFIX): tuple(collector._labelnames)  # type: ignore[attr-defined]
    for collector in Metrics().registry._collector_to_names
}

#: What Prometheus adds to a metric's name, and no longer has in the client's.
_SUFFIXES: Final = ("_total", "_bucket", "_sum", "_count", "")

#: Recorded by rules/recording.yaml, for long ranges: sums of a gateway by team and model, without
#: the labels that make them many.
_RECORDED: Final = {
    "requests_total": ("key", "status"),
    "tokens_total": ("key", "source"),
    "cost_usd_total": ("key",),
}

RATE: Final = "$__rate_interval"


def labels_of(metric: str) -> tuple[str, ...]:
    """Raises StopIteration where the gateway has no such metric."""
    names = (metric.removesuffix(suffix) for suffix in _SUFFIXES)
    return next(LABELS[name] for name in names if name in LABELS)


def series(metric: str, *where: str) -> str:
    """A metric's series of what is chosen in the variables that it has as labels."""
    known = [f'{name}=~"${name}"' for name in VARIABLES if name in labels_of(metric)]
    chosen = ",".join(('job=~"$job"', *known, *where))
    return f"{PREFIX}{metric}{{{chosen}}}"


def rate(metric: str, *where: str, by: str = "") -> str:
    """A counter's rate a second."""
    return f"{_sum(by)}(rate({series(metric, *where)}[{RATE}]))"


def quantile(share: float, metric: str, *where: str, by: str = "") -> str:
    """A quantile of a histogram's, over all gateways."""
    kept = f"le, {by}" if by else "le"
    found = f"sum by ({kept}) (rate({series(f'{metric}_bucket', *where)}[{RATE}]))"
    return f"histogram_quantile({share}, {found})"


def mean(metric: str, *, by: str = "") -> str:
    """A histogram's mean."""
    return f"{rate(f'{metric}_sum', by=by)} / {rate(f'{metric}_count', by=by)}"


def counted(
    metric: str, *where: str, by: str = "", recorded: bool = False, days: bool = False
) -> str:
    """What a counter has counted within the range that is shown, or in the day from each point on.

    `increase()` misses what a series has at its first scrape, and extrapolates. So where a gateway
    has not been restarted meanwhile, the difference of the raw values is taken, from 0 where the
    series began in the range: that is exact, but for what has not been scraped yet. Else, it is
    `increase()`. That a series began in the range is believed only where its gateway was scraped
    before, or started within it: else Prometheus may just have had a gap.
    """
    name = series(metric, *where)
    if recorded:
        name = name.replace(PREFIX + metric, recorded_name(metric))
    since = series("start_time_seconds")
    span, seconds, then, start = "$__range", "$__range_s", "", " offset $__range"
    if days:
        span, seconds, then, start = "1d", "0", " offset -1d", ""
    last, begun = f"max_over_time({name}[{span}]{then})", f"max_over_time({since}[{span}]{then})"
    return f"""{_sum(by)}(
  (
    {last}
    - (
      {name}{start}
      or 0 * {last} and on (job, instance) ({since}{start} or {begun} > time() - {seconds})
    ) >= 0
    and on (job, instance) changes({since}[{span}]{then}) == 0
  )
  or increase({name}[{span}]{then})
)"""


def recorded_name(metric: str) -> str:
    """The name that recording rules give to a counter's sums by team and model."""
    return f"team_model:{PREFIX}{metric.removesuffix('_total')}:sum"


def recorded_expression(metric: str) -> str:
    """What they record under it."""
    return f"sum without ({', '.join(_RECORDED[metric])}) ({PREFIX}{metric})"


RECORDED: Final = {recorded_name(metric): recorded_expression(metric) for metric in _RECORDED}


def _sum(by: str) -> str:
    return f"sum by ({by}) " if by else "sum"
