"""Images: what was let through, why the rest was not, and what they cost."""

from __future__ import annotations

from typing import Final

from grafana.source.layout import make
from grafana.source.panels import (
    QUANTILES,
    Json,
    bars,
    graph,
    heatmap,
    quantiles,
    query,
    stat,
)
from grafana.source.queries import Queries

_Q: Final = Queries("team", "model")
_NONE: Final = "no request had an image lately"
_IN_TIME: Final = "no request had an image in this time"
_NO_FETCH: Final = "no image was fetched lately (mode `url` fetches none)"


def dashboard() -> Json:
    return make(
        "images",
        "Images",
        "Verdicts, reasons, bytes, tokens and fetch times of images. What was refused, fetched or "
        "sent is told of all teams together; tokens by team and model.",
        _Q.variables,
        [
            ("At a glance", [(4, _glance())]),
            ("Verdicts", [(8, _verdicts()), (8, _totals())]),
            ("Cost", [(8, _tokens())]),
            ("Fetching", [(8, _fetching())]),
        ],
        since="now-24h",
    )


def _glance() -> list[Json]:
    images, refused = _Q.counted("images_total"), _Q.counted("images_total", 'verdict="refused"')
    hits = _Q.rate("image_cache_total", 'result=~"hit|shared"')
    return [
        stat("Images", "Judged in the time shown.", images, decimals=0),
        stat(
            "Refused",
            "Images refused in the time shown. A request with one is refused whole.",
            refused,
            steps=((None, "green"), (1, "orange")),
            decimals=0,
        ),
        stat(
            "Bytes", "Of images that came with requests.", _Q.counted("image_bytes_total"), "bytes"
        ),
        stat("Tokens", "Charged for images.", _Q.counted("image_tokens_total"), none="0"),
        stat(
            "Fetch, p95",
            "How long an image takes to come here, of late.",
            _Q.quantile(0.95, "image_fetch_seconds"),
            "s",
            none="no fetch",
        ),
        stat(
            "From the cache",
            "The share of looks, of late, that needed no fetch of their own.",
            f"({hits} or vector(0)) / {_Q.rate('image_cache_total')}",
            "percentunit",
            none="no fetch",
        ),
    ]


def _verdicts() -> list[Json]:
    return [
        graph(
            "Images a second",
            "By verdict.",
            [query(_Q.rate("images_total", by="verdict"), "{{verdict}}")],
            "ops",
            none=_NONE,
            colours=("allowed", "refused"),
            stacked=True,
        ),
        graph(
            "Refused a second, by reason",
            "The first rule that an image broke.",
            [query(_Q.rate("images_total", 'verdict="refused"', by="reason"), "{{reason}}")],
            "ops",
            none="no image was refused",
            stacked=True,
        ),
    ]


def _totals() -> list[Json]:
    def of(by: str, where: str) -> str:
        return f"{_Q.counted('images_total', where, by=by)} > 0"

    return [
        bars(
            "Refused, by reason",
            "In the time shown. README, *Images*, has the rules.",
            of("reason", 'verdict="refused"'),
            "{{reason}}",
            none="no image was refused in this time",
        ),
        bars(
            "Allowed, by format",
            "In the time shown; without a format are those that went by their link, unseen.",
            of("format", 'verdict="allowed"'),
            "{{format}}",
            none=_IN_TIME,
        ),
        graph(
            "Bytes a second",
            "Of images that came with requests as data, or were fetched to be sent so.",
            [query(_Q.rate("image_bytes_total"), "bytes")],
            "Bps",
            none=_NONE,
        ),
    ]


def _tokens() -> list[Json]:
    input = _Q.rate("tokens_total", 'kind="input"', by="model")
    share = f"{_Q.rate('image_tokens_total', by='model')} / {input}"
    return [
        graph(
            "Image tokens a second, by team",
            "As charged.",
            [query(_Q.rate("image_tokens_total", by="team"), "{{team}}")],
            none=_NONE,
            stacked=True,
        ),
        bars(
            "Image tokens, by model",
            "In the time shown.",
            f"{_Q.counted('image_tokens_total', by='model')} > 0",
            "{{model}}",
            none=_IN_TIME,
        ),
        graph(
            "Share of the input",
            "How much of the input tokens of a model is images.",
            [query(share, "{{model}}")],
            "percentunit",
            none=_NONE,
        ),
    ]


def _fetching() -> list[Json]:
    return [
        graph(
            "Fetch time",
            "From the look-up of a name to the image's last byte that is needed.",
            quantiles(lambda share: _Q.quantile(share, "image_fetch_seconds"), 0.5, 0.95, 0.99),
            "s",
            none=_NO_FETCH,
            colours=QUANTILES,
        ),
        heatmap(
            "Fetch time, all",
            "How many fetches took how long.",
            f"sum by (le) (increase({_Q.series('image_fetch_seconds_bucket')}[$__rate_interval]))",
            "s",
            none=_NO_FETCH,
        ),
        graph(
            "Cache",
            "Looks a second: `hit` had it, `shared` waited for another request's fetch, `miss` "
            "fetched.",
            [query(_Q.rate("image_cache_total", by="result"), "{{result}}")],
            "ops",
            none=_NO_FETCH,
            colours=("hit", "shared", "miss"),
            stacked=True,
        ),
    ]
