"""The stand of these tests is set up once: it only answers questions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.grafana.prometheus import BINARY, MISSING
from tests.grafana.stand import Stand, open_stand
from tests.valkey import run_valkey


@pytest.fixture(scope="session")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    if BINARY is None:
        pytest.skip(MISSING)
    folder = tmp_path_factory.mktemp("grafana")
    with run_valkey(folder) as url, open_stand(folder, url) as opened:
        yield opened
