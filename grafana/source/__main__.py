"""Write the dashboards."""

from __future__ import annotations

from grafana.source.layout import FOLDER, as_text
from grafana.source.table import DASHBOARDS

for name, made in DASHBOARDS.items():
    (FOLDER / f"{name}.json").write_text(as_text(made()))
