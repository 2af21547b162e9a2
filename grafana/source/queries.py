"""PromQL. A metric is named without its "visiongate_", and filtered by the variables that it knows.

Source: https://prometheus.io/docs/prometheus/latest/querying/
"""

from __future__ import annotations

from typing import Final

from proxy.metrics import Metrics

PREFIX: Final = "visiongate_"

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

#: A counter's rise within a time. `increase()` misses what a series has at its first scrape, and
#: extrapolates. So of a gateway that began once at most in that time, the difference of the raw
#: values is taken: exact, but for what is not scraped yet. A series that was not there at first
#: counts from 0 if its gateway was scraped then, or has begun since; else Prometheus may just have
#: had a gap. What is left is `increase()`.
_COUNTED: Final = """\
{sum}(
  (
    max_over_time({name}{within})
    - (
      {name}{start}
      or
      0 * max_over_time({name}{within})
        and on (job, instance) ({since}{start} or max_over_time({since}{within}) > time() - {ago})
    ) >= 0
    and on (job, instance) changes({since}{within}) == 0
  )
  or increase({name}{within})
)"""

RATE: Final = "$__rate_interval"


def labels_of(metric: str) -> tuple[str, ...]:
    """Raises StopIteration where the gateway has no such metric."""
    names = (metric.removesuffix(suffix) for suffix in _SUFFIXES)
    return next(LABELS[name] for name in names if name in LABELS)


class Queries:
    """Of a dashboard with these variables, beside the job."""

    def __init__(self, *variables: str) -> None:
        self.variables = variables

    def series(self, metric: str, *where: str) -> str:
        """A metric's series of what is chosen in the variables that it has as labels."""
        known = [f'{name}=~"${name}"' for name in self.variables if name in labels_of(metric)]
        chosen = ",".join(('job=~"$job"', *known, *where))
        return f"{PREFIX}{metric}{{{chosen}}}"

    def rate(self, metric: str, *where: str, by: str = "") -> str:
        """A counter's rate a second."""
        return f"{_sum(by)}(rate({self.series(metric, *where)}[{RATE}]))"

    def quantile(self, share: float, metric: str, *where: str, by: str = "") -> str:
        """A quantile of a histogram's, over all gateways."""
        kept = f"le, {by}" if by else "le"
        found = f"sum by ({kept}) (rate({self.series(f'{metric}_bucket', *where)}[{RATE}]))"
        return f"histogram_quantile({share}, {found})"

    def mean(self, metric: str, *, by: str = "") -> str:
        """A histogram's mean."""
        return f"{self.rate(f'{metric}_sum', by=by)} / {self.rate(f'{metric}_count', by=by)}"

    def counted(
        self, metric: str, *where: str, by: str = "", recorded: bool = False, days: bool = False
    ) -> str:
        """What a counter has counted within the time that is shown, or in the day from each point
        on. See _COUNTED.
        """
        name = self.series(metric, *where)
        if recorded:
            name = name.replace(PREFIX + metric, recorded_name(metric))
        span, ago, start, offset = "$__range", "$__range_s", " offset $__range", ""
        if days:
            span, ago, start, offset = "1d", "0", "", " offset -1d"
        return _COUNTED.format(
            sum=_sum(by),
            name=name,
            since=self.series("start_time_seconds"),
            start=start,
            within=f"[{span}]{offset}",
            ago=ago,
        )


def recorded_name(metric: str) -> str:
    """The name that recording rules give to a counter's sums by team and model."""
    return f"team_model:{PREFIX}{metric.removesuffix('_total')}:sum"


def recorded_expression(metric: str) -> str:
    """What they record under it."""
    return f"sum without ({', '.join(_RECORDED[metric])}) ({PREFIX}{metric})"


RECORDED: Final = {recorded_name(metric): recorded_expression(metric) for metric in _RECORDED}


def _sum(by: str) -> str:
    return f"sum by ({by}) " if by else "sum"
