"""`visiongate import` of files that are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import Visiongate
from tests.cli.teams_file import Edit, exported, records


def first(data: dict[str, Any]) -> dict[str, Any]:
    key: dict[str, Any] = data["teams"][1]["keys"][0]
    return key


def grant(limit: str, stamp: int) -> dict[str, Any]:
    return {"limit": limit, "stamp": stamp, "until": "2999-01-01"}


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda d: d.update(version=2), "version: must be 1"),
        (lambda d: d.update(team=[]), "team: unknown key; did you mean 'teams'?"),
        (lambda d: d.update(teams={}), "teams: must be a list"),
        (lambda d: d["teams"].append("x"), "teams[2]: must be a mapping"),
        (lambda d: d["teams"][0].pop("name"), "teams[0].name: required"),
        (lambda d: d["teams"][0].update(name="a b"), "cannot be a team's name"),
        (lambda d: d["teams"][0].update(plan="defualt"), "did you mean 'default'?"),
        (lambda d: d["teams"][0].update(plan=None), "teams[0].plan: must be text"),
        (lambda d: d["teams"][0].update(status="deleted"), "must be active or paused"),
        (lambda d: d["teams"][0].update(limits=["5 apples"]), "unknown unit 'apples'"),
        (lambda d: d["teams"][0].update(limits=["5 images on gpt"]), "unknown model 'gpt'"),
        (lambda d: d["teams"][0].update(limits="5 images"), "limits: must be a list"),
        (lambda d: d["teams"][0].update(labels=["a"]), "labels: must be a mapping"),
        (lambda d: d["teams"][0].update(labels={"a b": "1"}), "cannot be a label's name"),
        (lambda d: d["teams"][0].update(labels={"a": [1]}), "each must be text"),
        (lambda d: d["teams"][0].update(grants=[{"limit": "5 images"}]), "limit, stamp"),
        (
            lambda d: d["teams"][0].update(grants=[{"limit": "5 images", "stamp": "x"}]),
            "must be a whole number",
        ),
        (lambda d: d["teams"][0].update(grants=[grant("5 images/day", 10**14)]), "the stamp of"),
        (lambda d: d["teams"][0].update(grants=[grant("5 images/month", 0)]), "the stamp of"),
        (lambda d: d["teams"][0].update(grants=[grant("5 concurrent", 0)]), "has no window"),
        (lambda d: d["teams"][0].update(labels={f"l{n}": "" for n in range(65)}), "at most 64"),
        (lambda d: d["teams"][0].update(created_at="long ago"), "is not a time"),
        (lambda d: d["teams"][0].update(created_at="0001-01-01T00:00:00+23:59"), "is not a time"),
        (lambda d: d["teams"][0].update(created_at="9999-12-31T23:59:59-23:59"), "is not a time"),
        (lambda d: d["teams"].append(dict(d["teams"][0])), "is in the file twice"),
        (lambda d: first(d).pop("id"), "keys[0].id: required"),
        (lambda d: first(d).update(id="x"), "is not a key's id"),
        (lambda d: first(d).update(id="key_new", name="x", secrets=[]), "required for a new key"),
        (lambda d: first(d).update(id="key_new", name="x"), "a secret of the key"),
        (lambda d: first(d).update(name="held"), "has this name"),
        (lambda d: first(d).update(secrets=[{"hint": "x"}]), "digest, hint, expires_at"),
        (lambda d: first(d)["secrets"][0].update(digest="x"), "64 digits of hex"),
        (lambda d: first(d).update(secrets=first(d)["secrets"] * 6), "secrets: must be at most 10"),
        (lambda d: first(d).update(grants=[]), "grants: unknown key"),
        (lambda d: d["teams"][0]["keys"].append(first(d)), "is a key of the team 'vision'"),
        (lambda d: d["teams"][1]["keys"].append(first(d)), "is in the file twice"),
    ],
)
def test_wrong_files(full: Visiongate, tmp_path: Path, edit: Edit, said: str) -> None:
    """Whatever is wrong with a file is told with its place, and none of it is brought in."""
    file = exported(full, tmp_path / "teams.yaml", edit)
    before = records(full)
    told = full.refused(2, "import", file)
    assert told.startswith(f"{file}:")
    assert said in told
    assert "Traceback" not in told
    assert records(full) == before


def test_every_problem_at_once(full: Visiongate, tmp_path: Path) -> None:
    """A file with several problems has them all told, each with its line."""
    file = tmp_path / "teams.yaml"
    file.write_text("teams:\n- name: a b\n- name: x\n  plan: gold\n  lmits: []\n- {}\n")
    told = full.refused(2, "import", str(file)).splitlines()
    assert [line.split(":")[1] for line in told] == ["2", "5", "6"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"[1]", "must be a mapping"),
        (b"teams: [a", "never closed"),
        (b"\xff", "is not UTF-8 text"),
        (b'teams: [{name: x, labels: {a: "${NOT_SET_HERE}"}}]', "NOT_SET_HERE"),
    ],
)
def test_no_document(vg: Visiongate, tmp_path: Path, text: bytes, said: str) -> None:
    """What is no document of ours is told so."""
    file = tmp_path / "teams.yaml"
    file.write_bytes(text)
    assert said in vg.refused(2, "import", str(file))


def test_missing_file(vg: Visiongate) -> None:
    """A file that is not there is told with its name."""
    assert "nowhere.yaml: No such file" in vg.refused(1, "import", "nowhere.yaml")
