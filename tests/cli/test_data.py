"""`store.data`: what a gateway keeps beside the store."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from tests.cli.commands import Visiongate


def test_an_unwritable_directory(vg: Visiongate, tmp_path: Path) -> None:
    """A directory in which no charge could be kept is found by `check`, which makes nothing, and
    at the start.
    """
    (tmp_path / "file").touch()
    text = vg.config.read_text()
    for data, fit in ((tmp_path / "new" / "var", True), (tmp_path / "file" / "var", False)):
        where = yaml.safe_load(text)
        where["store"]["data"] = str(data)
        vg.config.write_text(yaml.safe_dump(where))
        if fit:
            vg.done("check")
            assert not data.parent.exists()
    words = f"store.data: uid {os.geteuid()} cannot write to {data}, where charges are kept"
    assert words in vg.refused(2, "check")
    told = vg.refused(2, "serve")
    assert told.startswith(f"visiongate: {words}")
    assert told.endswith("Not a directory\n")
