"""What tests of the gateway's images may ask for."""

from __future__ import annotations

from functools import partial

import pytest

from tests.scripted import ScriptedUpstream
from tests.web.image_stand import OpenStand, opened_stand


@pytest.fixture
def open_stand(
    store_url: str, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> OpenStand:
    """Open a gateway whose only way out is a scripted origin."""
    return partial(opened_stand, store_url, upstream, monkeypatch)
