"""`visiongate image`: verdict, size and price of an image."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.commands import Visiongate
from tests.images.samples import SAMPLES


@pytest.fixture
def png(tmp_path: Path) -> Path:
    file = tmp_path / "cat.png"
    file.write_bytes(SAMPLES["png"])
    return file


def test_priced_for_every_model(vg: Visiongate, png: Path) -> None:
    """A row a model that takes images, with format, size, tokens and usd."""
    rows = vg.json("image", str(png))
    assert rows
    for row in rows:
        assert row.keys() == {
            *("model", "detail", "tokens", "usd"),
            *("format", "width", "height", "bytes"),
        }
        assert (row["format"], row["bytes"]) == ("png", len(SAMPLES["png"]))
        assert row["tokens"] > 0


def test_detail_and_model(vg: Visiongate, png: Path) -> None:
    """One model and one detail, as a request would ask for them."""
    (row,) = vg.json("image", str(png), "--model", "gpt-4o", "--detail", "low")
    assert (row["model"], row["detail"], row["tokens"]) == ("gpt-4o", "low", 85)


def test_a_table(vg: Visiongate, png: Path) -> None:
    """A person gets the verdict and a table."""
    out = vg.done("image", str(png)).out
    assert out.startswith("allowed: png, ")
    assert "MODEL" in out


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("nowhere.png", "cannot be read"),
        ("https://127.0.0.1/cat.png", "refused: "),
        ("data:image/png;base64,AAAA", "refused: "),
    ],
)
def test_refused(vg: Visiongate, what: str, told: str) -> None:
    """What may not be sent is refused with the rule, and exit 1."""
    assert told in vg.refused(1, "image", what)


def test_a_models_providers_have_a_say(vg: Visiongate, tmp_path: Path) -> None:
    """What the policy allows and the model's provider does not is refused for that model."""
    vg.config.write_text(vg.config.read_text() + "images: {max_frames: 9}\n")
    moving = tmp_path / "cat.gif"
    moving.write_bytes(SAMPLES["gif-moving"])
    assert vg.json("image", str(moving))
    assert "animated" in vg.refused(1, "image", str(moving), "--model", "gpt-4o")


def test_unknown_model(vg: Visiongate, png: Path) -> None:
    """A misspelt model is wrong usage, and the right one is named."""
    assert "did you mean 'gpt-4o'?" in vg.refused(2, "image", str(png), "--model", "gpt-4")
