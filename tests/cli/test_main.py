"""The command line as a whole: help, where the configuration is, faults, pipes, signals."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import termios
from argparse import ArgumentParser
from array import array
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import redis

from proxy import __version__
from proxy.cli import main
from proxy.cli.arguments import build_parser
from proxy.cli.session import SMALLEST
from proxy.config import parse_config
from proxy.store.layout import SCHEMA, VERSION
from tests.cli.commands import Visiongate, write_config

SECONDS = 30


def start(*words: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "proxy", *words],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def parsers(parser: ArgumentParser) -> Iterator[ArgumentParser]:
    """Every command's own parser."""
    families = [action for action in parser._actions if isinstance(action.choices, dict)]
    if not families:
        yield parser
    for family in families:
        for child in family.choices.values():
            yield from parsers(child)


def test_help_is_quick() -> None:
    """`--help` loads none of the libraries that are slow to load."""
    heavy = "aiohttp pydantic redis rich msgspec yaml uvloop asyncio"
    code = (
        "import sys; from proxy.cli import main; code = main(['--help']); "
        f"print('loaded:', [m for m in '{heavy}'.split() if m in sys.modules], code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("loaded: [] 0\n")


def test_every_command() -> None:
    """Every command leads to a function, and its help has an example that it understands."""
    found = list(parsers(build_parser()))
    assert len(found) == 26
    for parser in found:
        module, _, name = parser.get_default("run").partition(":")
        assert callable(getattr(import_module(f"proxy.cli.{module}"), name))
        examples = re.findall(r"^  visiongate (.+)$", parser.epilog or "", re.MULTILINE)
        assert examples
        for example in examples:
            words = [word.strip("'") for word in re.findall(r"'[^']*'|[^' ]+", example)]
            words = words[: words.index("<")] if "<" in words else words
            parsed = build_parser().parse_args(words)
            assert parsed.run == parser.get_default("run")


@pytest.mark.parametrize("words", [["--help"], ["key", "--help"], ["usage", "--help"]])
def test_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Help is no failure."""
    assert main(words) == 0
    assert "-c FILE" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` is the package's."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"visiongate {__version__}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["teem"], "invalid choice: 'teem'"),
        (["team"], "required: COMMAND"),
        (["team", "create"], "required: NAME"),
        (["team", "list", "--jso"], "unrecognized arguments: --jso"),
        (["demo", "--port", "70000"], "'70000' is not a port"),
    ],
)
def test_wrong_usage(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong usage ends with 2, says what is wrong, and where to read on."""
    assert main(words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("visiongate: ")
    assert said in told.err
    assert "--help" in told.err


def test_where_the_config_is(
    vg: Visiongate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`-c` goes before or after a command, over the environment, over the usual place."""
    file = str(vg.config)
    for words in (
        ("-c", file, "team", "list"),
        ("team", "-c", file, "list"),
        ("team", "list", "-c", file),
        ("-c", "nowhere", "team", "list", "-c", file),
    ):
        assert vg.bare(*words).code == 0
    assert vg.bare("team", "list").code == 2
    monkeypatch.setenv("VISIONGATE_CONFIG", file)
    assert vg.bare("team", "list").code == 0
    assert vg.bare("-c", "nowhere", "team", "list").code == 2
    monkeypatch.delenv("VISIONGATE_CONFIG")
    (tmp_path / "config").mkdir()
    write_config(tmp_path / "config" / "visiongate.yaml", vg.url)
    monkeypatch.chdir(tmp_path)
    assert vg.bare("team", "list").code == 0


def test_no_config(vg: Visiongate) -> None:
    """Where there is no configuration, lines to begin one with are told, and they are right."""
    told = vg.bare("-c", "nowhere.yaml", "team", "list")
    assert (told.code, told.out) == (2, "")
    assert "no config at nowhere.yaml" in told.err
    assert SMALLEST in told.err
    assert parse_config(SMALLEST, "x", {"OPENAI_API_KEY": "sk-x"}).store.embedded


@pytest.mark.parametrize("words", [("team", "list"), ("check",), ("serve",), ("usage",)])
def test_wrong_config(vg: Visiongate, words: tuple[str, ...]) -> None:
    """Every problem of a configuration is a line of its own with the file's line."""
    vg.config.write_text(vg.config.read_text() + "polans: {}\nserver: 3\n")
    lines = vg.refused(2, *words).splitlines()
    assert len(lines) >= 2
    assert all(line.startswith(f"{vg.config}:") for line in lines)
    assert any("did you mean 'plans'?" in line for line in lines)


@pytest.mark.parametrize(
    "words",
    [
        ("team", "list"),
        ("team", "create", "x"),
        ("key", "create", "--team", "x", "--name", "y"),
        ("usage",),
        ("export",),
        ("check",),
        ("serve",),
    ],
)
def test_store_away(vg: Visiongate, tmp_path: Path, words: tuple[str, ...]) -> None:
    """A store that cannot be reached is told in one line, with its address and no password."""
    write_config(vg.config, f"unix://:secret@{tmp_path}/none.sock")
    told = vg.refused(1, *words)
    assert told.count("\n") == 1
    assert told.startswith(f"visiongate: the store at unix://{tmp_path}/none.sock cannot be used")
    assert "store.url" in told
    assert "secret" not in told


@pytest.mark.parametrize("words", [("team", "list"), ("check",), ("serve",)])
def test_newer_store(vg: Visiongate, words: tuple[str, ...]) -> None:
    """A store that a newer release wrote is left alone."""
    with vg.client() as client:
        client.set(SCHEMA, VERSION + 1)
    assert f"schema version {VERSION + 1}" in vg.refused(1, *words)


@pytest.mark.parametrize("words", [("team", "list"), ("check",), ("serve",)])
def test_older_store(vg: Visiongate, words: tuple[str, ...]) -> None:
    """A store of an older layout is left alone, and what to do with it is told."""
    with vg.client() as client:
        client.set(SCHEMA, VERSION - 1)
    told = vg.refused(1, *words)
    assert f"schema version {VERSION - 1}" in told
    assert "export its teams and keys" in told


@pytest.mark.parametrize("words", [("team", "list"), ("serve",)])
def test_store_that_nobody_can_use(vg: Visiongate, words: tuple[str, ...]) -> None:
    """A store's URL that nobody can use is told, not traced."""
    write_config(vg.config, "redis://127.0.0.1:1?ssl_ca_certs=ca.pem")
    result = vg(*words)
    assert result.code in (1, 2)
    assert "store.url" in result.err


def test_full_store(vg: Visiongate) -> None:
    """What a store refuses is told in its own words."""
    with redis.Redis.from_url(vg.url) as client:
        client.set("filler", "x" * 200_000)
        client.config_set("maxmemory", 1)
        try:
            told = vg.refused(1, "team", "create", "vision")
        finally:
            client.config_set("maxmemory", 0)
    assert "maxmemory" in told


def test_embedded_store_in_the_way(vg: Visiongate, tmp_path: Path) -> None:
    """A data directory that cannot be used is told."""
    (tmp_path / "var").write_text("not a directory")
    vg.config.write_text(
        vg.config.read_text().replace(f'"{vg.url}"', f"embedded, data: {tmp_path}/var")
    )
    assert f"{tmp_path}/var" in vg.refused(1, "team", "list")


def test_bugs_are_not_hidden(vg: Visiongate, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody expects is raised, so that it can be found."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("proxy.cli.teams.list_teams", broken)
    with pytest.raises(ZeroDivisionError):
        vg("team", "list")


def test_interrupted(vg: Visiongate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends a command with 130 and without a trace."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("proxy.cli.teams.list_teams", interrupted)
    assert vg.refused(130, "team", "list") == "\n"


def test_as_a_module(vg: Visiongate) -> None:
    """`python -m proxy` is the same command line, and plain text in a pipe."""
    label = "note=" + "x" * 200
    vg.done("team", "create", "vision", "--label", label)
    with start("-c", str(vg.config), "team", "list") as process:
        out, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, err) == (0, "")
    assert out.isascii()
    assert "\x1b" not in out
    assert label in out.splitlines()[1]


def test_strange_bytes(vg: Visiongate) -> None:
    """Output is UTF-8 whatever the locale, and a name that is not text is told, not a fault."""
    vg.done("team", "create", "vision", "--label", "who=Zoë")
    for words, told in ((["team", "list"], "who=Zoë"), (["team", "show", "\udcff"], "no team")):
        done = subprocess.run(
            [sys.executable, "-m", "proxy", "-c", str(vg.config), *words],
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
            check=False,
            timeout=SECONDS,
        )
        said = (done.stdout + done.stderr).decode()
        assert told in said
        assert "Traceback" not in said


def test_reader_that_leaves(vg: Visiongate) -> None:
    """A command whose reader has gone ends quietly."""
    vg.done("team", "create", "vision")
    with start("-c", str(vg.config), "export") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=SECONDS) == 1


def test_text_from_a_pipe(vg: Visiongate) -> None:
    """`key find --stdin` reads what is piped into it."""
    vg.done("team", "create", "vision")
    secret = vg.secret("vision", "ci")
    words = ("-c", str(vg.config), "key", "find", "--stdin")
    with start(*words, stdin=subprocess.PIPE) as process:
        out, _ = process.communicate(f"Authorization: Bearer {secret}\n", timeout=SECONDS)
    assert process.returncode == 0
    assert "vision" in out
    assert secret not in out


def test_interrupted_for_real(vg: Visiongate) -> None:
    """Ctrl-C while a command waits for its input ends it with 130."""
    reader, writer = os.pipe()
    with start("-c", str(vg.config), "key", "find", "--stdin", stdin=reader) as process:
        os.close(reader)
        os.write(writer, b"-")
        unread = array("i", [1])
        while unread[0]:  # what it has read it is waiting behind
            fcntl.ioctl(writer, termios.FIONREAD, unread)
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=SECONDS) == 130
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    os.close(writer)


def test_a_full_disk() -> None:
    """What cannot be written is told in a line, and the command has failed."""
    command = (sys.executable, "-c", CODE_THAT_PRINTS)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=30
        )
    assert done.returncode == 1, done.stderr
    assert done.stderr == "visiongate: cannot write: No space left on device\n"


#: A command that has an answer and no store.
CODE_THAT_PRINTS = """
import sys
import proxy.cli as cli
cli._run = lambda args: print("an answer") or 0
sys.exit(cli.main(["team", "list"]))
"""
