"""The dashboards by the names of their files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from grafana.source import images, service, upstreams, usage
from grafana.source.panels import Json

DASHBOARDS: Final[dict[str, Callable[[], Json]]] = {
    "usage": usage.dashboard,
    "service": service.dashboard,
    "upstreams": upstreams.dashboard,
    "images": images.dashboard,
}
