"""`visiongate export` and `import`: there and back, and what is refused on the way."""

from __future__ import annotations

import io
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from proxy.manage import transfer
from proxy.store.directory import Directory
from tests.cli.commands import Visiongate, write_config
from tests.cli.teams_file import empty, exported, records


def test_round_trip(full: Visiongate, tmp_path: Path) -> None:
    """An export brought into an empty store makes every record what it was, byte for byte."""
    file = exported(full, tmp_path / "teams.yaml")
    before = records(full)
    assert {"vg:{vision}:records", "vg:{docs}:records"} <= before.keys()
    empty(full)
    assert "5 created, 0 changed" in full.done("import", file).out
    assert records(full) == before
    assert full.done("export").out == Path(file).read_text()


def test_keys_still_work(full: Visiongate, tmp_path: Path) -> None:
    """A secret made before the export is known after the import."""
    secret = full.secret("vision", "web")
    file = exported(full, tmp_path / "teams.yaml")
    empty(full)
    full.done("import", file)
    assert full.json("key", "find", secret)[0]["name"] == "web"


def test_twice_is_as_good_as_once(full: Visiongate, tmp_path: Path) -> None:
    """Importing what is there already changes nothing."""
    file = exported(full, tmp_path / "teams.yaml")
    before = records(full)
    for _ in range(2):
        assert full.done("import", file).out == "0 created, 0 changed, 5 as they should be\n"
    assert records(full) == before


def test_export_to_a_file(full: Visiongate, tmp_path: Path) -> None:
    """A file is readable by its owner alone, also where it was there before and open to all."""
    file = tmp_path / "teams.yaml"
    file.write_text("old")
    file.chmod(0o644)
    result = full.done("export", "-o", str(file))
    assert result.out == ""
    assert "teams 2, keys 3" in result.err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text() == full.done("export", "-o", "-").out
    assert [path.name for path in tmp_path.glob("*teams.yaml*")] == ["teams.yaml"]


@pytest.mark.parametrize(
    ("place", "said"),
    [("none/teams.yaml", "No such file or directory"), (".", "Is a directory")],
)
def test_export_to_nowhere(full: Visiongate, tmp_path: Path, place: str, said: str) -> None:
    """A file that cannot be written is told with its name."""
    file = tmp_path / place
    assert full.refused(1, "export", "-o", str(file)) == f"visiongate: {file}: {said}\n"


def test_export_to_what_is_no_file(vg: Visiongate, tmp_path: Path) -> None:
    """A device or a pipe is written to, and a link stays a link: neither is replaced by a file."""
    pipe, link, file = (tmp_path / name for name in ("pipe", "link", "teams.yaml"))
    os.mkfifo(pipe)
    link.symlink_to(file)
    descriptor = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    for place in (pipe, link):
        vg.done("export", "-o", str(place))
    text = vg.done("export").out
    assert os.read(descriptor, 10_000).decode() == text
    os.close(descriptor)
    assert pipe.is_fifo()
    assert link.is_symlink()
    assert file.read_text() == text


def test_round_trip_as_json(full: Visiongate, tmp_path: Path) -> None:
    """A file whose name says so is JSON, and is as good as YAML."""
    file = tmp_path / "teams.json"
    full.done("export", "-o", str(file))
    assert json.loads(file.read_text())["version"] == 1
    before = records(full)
    empty(full)
    full.done("import", str(file))
    assert records(full) == before


def test_json_has_no_references(full: Visiongate, tmp_path: Path) -> None:
    """JSON, as the admin API exports it, is taken as it is: a dollar is a dollar."""
    file = tmp_path / "teams.json"
    file.write_text(json.dumps({"teams": [{"name": "docs", "labels": {"a": "${HOME} $$"}}]}))
    full.done("import", str(file))
    assert full.json("team", "show", "docs")["labels"] == {"a": "${HOME} $$"}


def test_dry_run(full: Visiongate, tmp_path: Path) -> None:
    """A dry run prints what would be created and changed, field by field, and does neither."""

    def edit(data: dict[str, Any]) -> None:
        data["teams"][1]["limits"] = ["70 usd/month"]
        data["teams"].append({"name": "new", "labels": {"a": "1"}})

    file = exported(full, tmp_path / "teams.yaml", edit)
    before = records(full)
    out = full.done("import", file, "--dry-run").out
    limits = "1500.25 usd/month, 100000 tokens/day on gpt-4o, 20 concurrent"
    assert f"~ team vision\n    limits: {limits} -> 70 usd/month\n+ team new\n" in out
    assert "    labels: a=1\n" in out
    assert out.endswith("1 to create, 1 to change, 4 as they should be; nothing was done\n")
    assert records(full) == before
    assert "1 created, 1 changed" in full.done("import", file).out
    assert full.json("team", "show", "vision")["limits"] == ["70 usd/month"]
    assert full.json("team", "show", "new")["labels"] == {"a": "1"}


def test_diff_as_json(full: Visiongate, tmp_path: Path) -> None:
    """As JSON the diff has what changes from what to what, and no hash."""

    def edit(data: dict[str, Any]) -> None:
        data["teams"][1]["keys"][0]["name"] = "renamed"
        data["teams"][1]["keys"][0]["secrets"].pop()

    file = exported(full, tmp_path / "teams.yaml", edit)
    (change,) = full.json("import", file, "--dry-run")
    assert (change["action"], change["kind"], change["team"]) == ("change", "key", "vision")
    assert change["changes"]["name"] == {"old": "ci", "new": "renamed"}
    assert set(change["changes"]) == {"name", "secrets"}
    assert all(text.startswith("vg_…") for text in change["changes"]["secrets"]["old"])
    full.done("import", file)
    assert full.json("key", "show", "renamed")["id"] == change["id"]


def test_what_is_not_written_stays(full: Visiongate, tmp_path: Path) -> None:
    """A file may name only what it cares about: other fields, keys and teams stay."""
    file = tmp_path / "teams.yaml"
    file.write_text("teams: [{name: vision, limits: [9 usd/day], labels: {cost: 42}}]")
    full.done("import", str(file))
    vision = full.json("team", "show", "vision")
    assert (vision["plan"], vision["limits"], vision["labels"]) == (
        "standard",
        ["9 usd/day"],
        {"cost": "42"},
    )
    assert len(vision["keys"]) == 3
    assert [team["name"] for team in full.json("team", "list")] == ["docs", "vision"]


def test_from_standard_input(vg: Visiongate, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` is standard input."""
    raw = io.BytesIO(b"teams: [{name: vision}]")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(raw))
    vg.done("import", "-")
    assert [team["name"] for team in vg.json("team", "list")] == ["vision"]


def test_revoked_is_for_good(full: Visiongate, tmp_path: Path) -> None:
    """An older file does not bring back a key that was revoked since."""
    file = exported(full, tmp_path / "teams.yaml")
    key_id = full.json("key", "show", "ci")["id"]
    full.done("key", "revoke", "ci")
    full.done("import", file)
    assert full.json("key", "show", key_id)["status"] == "revoked"


@pytest.mark.parametrize("overlap", ["0", "7d"])
def test_replaced_is_for_good(full: Visiongate, tmp_path: Path, overlap: str) -> None:
    """An older file brings back no secret that was replaced since, nor takes the new one away."""
    file = exported(full, tmp_path / "teams.yaml")
    full.done("key", "rotate", "ci", "--overlap", overlap)
    after = records(full)
    assert "0 changed" in full.done("import", file).out
    assert records(full) == after


def test_replaced_elsewhere(full: Visiongate, tmp_path: Path) -> None:
    """A file from a store where a key was rotated brings its new secret here."""
    older = exported(full, tmp_path / "older.yaml")
    full.done("key", "rotate", "ci", "--overlap", "0")
    newer, after = exported(full, tmp_path / "newer.yaml"), records(full)
    empty(full)
    full.done("import", older)
    assert "1 changed" in full.done("import", newer).out
    assert records(full)["vg:{vision}:records"] == after["vg:{vision}:records"]


def test_other_pepper(full: Visiongate, tmp_path: Path) -> None:
    """Keys signed with a pepper that is not configured are warned of."""
    file = exported(full, tmp_path / "teams.yaml")
    assert full.done("import", file).err == ""
    write_config(full.config, full.url, pepper="a pepper that is not the same")
    assert "warning" in full.done("import", file).err


def test_deleted_team(full: Visiongate, tmp_path: Path) -> None:
    """A team that was deleted is not exported, and a file does not bring it back."""
    file = exported(full, tmp_path / "teams.yaml")
    full.done("team", "delete", "vision", "--yes")
    assert "name: vision" not in full.done("export").out
    assert "the team 'vision' was deleted here" in full.refused(2, "import", file)


def test_plan_that_is_gone(full: Visiongate, tmp_path: Path) -> None:
    """What a live record names must be in the configuration; a revoked key's need not."""

    def edit(data: dict[str, Any]) -> None:
        old = next(key for key in data["teams"][1]["keys"] if key["status"] == "revoked")
        old["plan"] = "gone"

    file = exported(full, tmp_path / "teams.yaml", edit)
    assert "1 changed" in full.done("import", file).out


def test_changed_meanwhile(
    full: Visiongate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that changes between the look and the write is left to a second import."""

    def edit(data: dict[str, Any]) -> None:
        data["teams"][1]["plan"] = "default"

    file = exported(full, tmp_path / "teams.yaml", edit)
    apply = transfer._apply

    async def slowly(directory: Directory, *what: Any) -> None:
        await directory.change_team("vision", lambda t: replace(t, labels={}))
        await apply(directory, *what)

    monkeypatch.setattr(transfer, "_apply", slowly)
    assert "was changed meanwhile" in full.refused(1, "import", file)
    assert full.json("team", "show", "vision")["plan"] == "standard"


def test_a_bar(vg: Visiongate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long import shows how far it is on a terminal, and nowhere else."""
    monkeypatch.setattr("proxy.cli.transfer.LONG", 30)
    file = tmp_path / "teams.yaml"
    for terminal, bar in ((False, False), (True, True)):
        file.write_text(
            f"teams: [{{name: a{terminal}}}, {{name: b{terminal}}}, {{name: c{terminal}}}]"
        )
        monkeypatch.setattr("sys.stderr.isatty", lambda tty=terminal: tty)
        assert ("teams and keys" in vg.done("import", str(file)).err) is bar


def test_many_keys(vg: Visiongate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are brought in several at once, and an import that was broken off is made whole."""
    keys = [
        {"id": f"key_{n}", "name": f"k{n}", "secrets": [{"digest": f"{n:064x}", "hint": "abcd"}]}
        for n in range(60)
    ]
    for module in ("manage.transfer", "store.directory"):
        monkeypatch.setattr(f"proxy.{module}.AT_ONCE", 25)
    file = tmp_path / "teams.yaml"
    file.write_text(yaml.safe_dump({"teams": [{"name": "vision", "keys": keys}]}))
    assert "61 created" in vg.done("import", str(file)).out
    with vg.client() as client:
        client.delete(f"vg:auth:{7:064x}")
        assert "0 created" in vg.done("import", str(file)).out
        assert client.get(f"vg:auth:{7:064x}") == "vision key_7"
        assert len(client.keys("vg:auth:*")) == 60
    assert len(vg.json("audit")) == 61
    vg.done("team", "delete", "vision", "--yes")
    assert len(vg.json("audit")) == 122
