"""`visiongate image`: verdict, size and price of an image."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from proxy.cli import image as command
from proxy.images.answer import unreachable
from proxy.images.sniff import walk
from proxy.images.visit import Fetched
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


class Outside:
    """A network: it fetches whole images, and finds that nothing can be looked at."""

    def __init__(self) -> None:
        self.fetched: list[tuple[Any, ...]] = []

    async def peek(self, *asked: Any) -> Any:
        raise unreachable("status")

    async def fetch(self, *asked: Any) -> Fetched:
        self.fetched.append(asked)
        return Fetched(SAMPLES["png"], walk(SAMPLES["png"]))


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> Outside:
    outside = Outside()
    monkeypatch.setattr(command, "open_fetcher", lambda *_: nullcontext(outside))
    return outside


def test_inline(vg: Visiongate, outside: Outside) -> None:
    """Where images are sent inline, an inner host that may be fetched is, and all of the image."""
    text = vg.config.read_text()
    vg.config.write_text(text + 'images: {mode: inline, hosts: {internal: ["images.corp"]}}\n')
    (row,) = vg.json("image", "https://images.corp/cat.png", "--model", "gpt-4o")
    assert (row["format"], row["bytes"]) == ("png", len(SAMPLES["png"]))
    ((url, (rules,), *_),) = outside.fetched
    assert (url, rules.internal) == ("https://images.corp/cat.png", ("images.corp",))


def test_a_model_whose_images_are_inline(vg: Visiongate, outside: Outside) -> None:
    """A provider that takes no links has its images fetched, whatever the mode."""
    old, new = 'KEY}"}', 'KEY}", image_urls: inline}'
    vg.config.write_text(vg.config.read_text().replace(old, new))
    (row,) = vg.json("image", "https://pub.example/cat.png", "--model", "gpt-4o")
    assert row["bytes"] == len(SAMPLES["png"])


def test_out_of_reach(vg: Visiongate, outside: Outside) -> None:
    """What cannot be looked at has its largest price, or is refused, as the config has it."""
    (row,) = vg.json("image", "https://pub.example/cat.png", "--model", "gpt-4o")
    assert (row["width"], row["tokens"]) == (None, 85 + 170 * 8)
    vg.config.write_text(vg.config.read_text() + "images: {on_unreachable: reject}\n")
    assert "could not be fetched" in vg.refused(1, "image", "https://pub.example/cat.png")


def test_bytes_are_counted_without_padding(vg: Visiongate, tmp_path: Path) -> None:
    """The size told is the file's, whatever remains of it in base64."""
    for more in range(3):
        file = tmp_path / f"{more}.jpg"
        file.write_bytes(SAMPLES["jpeg"] + bytes(more))
        assert {row["bytes"] for row in vg.json("image", str(file))} == {file.stat().st_size}
