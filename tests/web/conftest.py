"""What tests of the gateway's images and of its vendors may ask for."""

from __future__ import annotations

from functools import partial

import pytest

from tests.scripted import ScriptedUpstream
from tests.web.image_stand import OpenStand, opened_stand
from tests.web.vendors import OpenVendor, opened_vendor


@pytest.fixture
def open_stand(
    store_url: str, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> OpenStand:
    """Open a gateway whose only way out is a scripted origin."""
    return partial(opened_stand, store_url, upstream, monkeypatch)


@pytest.fixture
def open_vendor(store_url: str, upstream: ScriptedUpstream) -> OpenVendor:
    """Open a gateway before a scripted vendor; with it comes a key."""
    return partial(opened_vendor, store_url, upstream)
