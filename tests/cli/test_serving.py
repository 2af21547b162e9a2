"""`visiongate serve`, `check` and `demo`."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.certificates import open_certificate
from proxy.config import literal_secrets
from proxy.store.layout import VERSION
from tests.cli.commands import Visiongate, write_config
from tests.test_certificates import EXPIRED, GOOD, SECOND

SECONDS = 30


def test_check(vg: Visiongate) -> None:
    """A right configuration before a store that answers is summed up."""
    vg.done("team", "create", "vision")
    found = vg.json("check")
    store, warnings = found.pop("store"), found.pop("warnings")
    assert found == {
        "ok": True,
        "config": str(vg.config),
        "providers": ["openai"],
        "models": ["gpt-4o", "gpt-4o-mini"],
        "plans": ["default", "standard"],
    }
    assert store.pop("version").startswith("Valkey ")
    assert store == {
        "address": vg.url,
        "reachable": True,
        "schema": VERSION,
        "teams": 1,
        "keys": 0,
    }
    text = vg.done("check").out
    assert "is right, and the store answers" in text
    assert "gpt-4o, gpt-4o-mini" in text
    (warning,) = warnings
    assert warning.startswith("the store has no append-only file")
    assert vg.done("check").err == f"warning: {warning}\n"


def test_check_a_doubtful_address(vg: Visiongate) -> None:
    """A base URL without a path is warned of, since it may be wrong, with what may be meant."""
    text = vg.config.read_text()
    vg.config.write_text(text.replace("https://api.openai.com/v1", "http://127.0.0.1:8000/"))
    warning = (
        "providers.openai.base_url has no path; most servers of kind: openai answer below /v1, "
        "as in 'http://127.0.0.1:8000/v1'"
    )
    assert vg.json("check")["warnings"][0] == warning
    assert f"warning: {warning}\n" in vg.done("check").err


def test_check_an_address_that_cannot_be(vg: Visiongate) -> None:
    """A known server's base URL without its path is an error, with its line and the right one."""
    text = vg.config.read_text()
    vg.config.write_text(text.replace("https://api.openai.com/v1", "https://api.openai.com"))
    result = vg("check")
    assert result.code == 2
    assert f"{vg.config}:6: providers.openai.base_url: " in result.err
    assert "did you mean 'https://api.openai.com/v1'?" in result.err


def test_check_old_store(vg: Visiongate, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is too old is no warning: nothing would work."""
    monkeypatch.setattr("proxy.store.survey._OLDEST", (99, 0))
    assert "its scripts need Redis 7.0 or newer" in vg.refused(1, "check")
    result = vg("check", "--json")
    assert (result.code, result.err) == (1, "")
    assert result.json["store"]["reachable"] is True
    assert "newer" in result.json["store"]["error"]


def test_check_wrong_config(vg: Visiongate) -> None:
    """As JSON the problems of a configuration are a list with file, line, path and message."""
    vg.config.write_text(vg.config.read_text() + "polans: {}\n")
    result = vg("check", "--json")
    assert (result.code, result.err) == (2, "")
    assert result.json["ok"] is False
    (problem,) = result.json["problems"]
    assert problem["file"] == str(vg.config)
    assert problem["path"] == "polans"
    assert vg.config.read_text().splitlines()[problem["line"] - 1] == "polans: {}"
    assert "did you mean 'plans'?" in problem["message"]


def test_check_store_away(vg: Visiongate, tmp_path: Path) -> None:
    """As JSON a store that cannot be reached is told beside what is right."""
    write_config(vg.config, f"unix://{tmp_path}/none.sock")
    result = vg("check", "--json")
    assert (result.code, result.err) == (1, "")
    assert (result.json["ok"], result.json["store"]["reachable"]) == (False, False)
    assert result.json["models"] == ["gpt-4o", "gpt-4o-mini"]


@pytest.fixture
def user(vg: Visiongate) -> Iterator[None]:
    """A user of the store, `gate` with the password `pw`, who may not list the teams."""
    with vg.client() as client:
        client.execute_command("ACL", "SETUSER", "gate", "on", ">pw", "~*", "+@all", "-smembers")
        yield
        client.execute_command("ACL", "DELUSER", "gate")


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize(
    ("password", "words"),
    [
        ("pw", "User gate has no permissions to run the 'smembers' command"),
        ("letmein", "invalid username-password pair or user is disabled"),
    ],
)
def test_check_user(vg: Visiongate, password: str, words: str) -> None:
    """A wrong password or a missing right is told to be one, and no password is repeated."""
    write_config(vg.config, vg.url.replace("unix://", f"unix://gate:{password}@"))
    told = vg.refused(1, "check")
    assert words in told
    assert password not in told.replace(str(vg.config), "")


def test_check_what_the_store_needs(vg: Visiongate) -> None:
    """Plans and models that live teams and keys name must be in the configuration."""
    vg.done("team", "create", "vision", "--plan", "standard", "--limit", "1 usd/day")
    vg.done("team", "create", "gone", "--plan", "standard")
    vg.done("team", "delete", "gone", "--yes")
    vg.secret("vision", "ci", "--limit", "5 images/day on gpt-4o-mini")
    vg.secret("vision", "old", "--plan", "standard")
    vg.done("key", "revoke", "old")
    text = vg.config.read_text()
    vg.config.write_text(text.replace("standard:", "other:").replace("gpt-4o-mini:", "gpt-4.1:"))
    lines = vg.refused(2, "check").splitlines()
    assert len(lines) == 2
    assert "plans: the team 'vision' of the store: unknown plan 'standard'" in lines[0]
    assert "'ci' of the store: unknown model 'gpt-4o-mini'" in lines[1]
    result = vg("check", "--json")
    assert (result.code, len(result.json["problems"])) == (2, 2)


def test_serve(vg: Visiongate) -> None:
    """The gateway says where it serves, serves there, and ends with 0 after SIGTERM."""
    with subprocess.Popen(
        [sys.executable, "-m", "proxy", "serve", "-c", str(vg.config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = json.loads(process.stdout.readline())
        assert line["event"] == "serving"
        with urllib.request.urlopen(f"{line['public']}/healthz", timeout=SECONDS) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, err) == (0, "")
    assert json.loads(out.splitlines()[-1])["event"] == "stopped"


def test_serve_opens_many_files() -> None:
    """A shell's limit of open files is raised as far as the system allows."""
    program = """
import resource
from proxy.cli.serving import allow_open_files
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, most))
allow_open_files()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 64)
"""
    words = [sys.executable, "-c", program]
    assert subprocess.run(words, check=True, capture_output=True).stdout == b"True\n"


def test_serve_on_a_taken_port(vg: Visiongate) -> None:
    """A port that is taken is told in one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        vg.config.write_text(vg.config.read_text().replace("port: 0", f"port: {port}", 1))
        with subprocess.Popen(
            [sys.executable, "-m", "proxy", "serve", "-c", str(vg.config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            out, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, out) == (1, "")
    assert err.startswith(f"visiongate: cannot listen on 127.0.0.1 port {port}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "asked"),
    [((), (None, False)), (("--port", "8123"), (8123, False)), (("--json",), (None, True))],
)
def test_demo(
    vg: Visiongate,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    asked: tuple[int | None, bool],
) -> None:
    """The demo needs no configuration, and its answer is the command's."""
    told: list[tuple[int | None, bool]] = []

    def run_demo(port: int | None, as_json: bool) -> int:
        told.append((port, as_json))
        return 7

    monkeypatch.setattr("proxy.demo.command.run_demo", run_demo)
    assert vg.bare("demo", *words).code == 7
    assert told == [asked]


def test_demo_on_a_taken_port(vg: Visiongate, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system refuses the demo is told in one line."""

    def run_demo(port: int | None, as_json: bool) -> int:
        raise OSError(98, "Address already in use")

    monkeypatch.setattr("proxy.demo.command.run_demo", run_demo)
    assert vg.bare("demo").err == "visiongate: Address already in use\n"


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("${TEST_PROVIDER_KEY}", "sk-live-1234567890", "6: providers.openai.api_key"),
        ("${TEST_PROVIDER_KEY}", "${NONE:-sk-live-1234567890}", "6: providers.openai.api_key"),
        ("admin: {port: 0}", "admin: {port: 0, token: a-token}", "2: admin.token"),
        ("${file:", "sixteen characters, ${file:", "4: keys.pepper"),
    ],
)
def test_check_a_secret_in_the_file(vg: Visiongate, old: str, new: str, place: str) -> None:
    """A secret that is written in the file itself is warned of by its line, and not repeated."""
    text = vg.config.read_text()
    assert old in text
    vg.config.write_text(text.replace(old, new))
    told = vg.done("check").err
    assert f"{vg.config}:{place}: the secret stands in the file; write ${{NAME}}" in told
    assert new not in told


def test_check_a_password_in_the_file(tmp_path: Path) -> None:
    """Of a URL only the password counts, wherever it stands in it, and no reference does."""
    file = tmp_path / "visiongate.yaml"

    def told(url: str) -> int:
        file.write_text(f"store: {{url: '{url}'}}\nimages: {{egress_proxy: '{url}'}}\n")
        return len(literal_secrets(file, {"PW": "hunter2", "URL": "redis://u:hunter2@h"}))

    for url in ("redis://u:hunter2@h", "redis://:hunter2@h", "unix:///s?password=hunter2"):
        assert told(url) == 2
    for url in ("redis://u:${PW}@h", "redis://u@h:6379", "${URL}", "embedded", "redis://h/0"):
        assert told(url) == 0


def test_check_peppers_in_the_file(tmp_path: Path) -> None:
    """Of a list of peppers each is warned of that is written there, and no reference is."""
    file = tmp_path / "visiongate.yaml"
    file.write_text("keys:\n  pepper:\n  - ${NEW}\n  - a pepper of the file\n")
    (told,) = literal_secrets(file, {"NEW": "a pepper of the tests"})
    assert told.startswith(f"{file}:4: keys.pepper[1]: the secret stands in the file; write ${{")


def test_check_a_certificate(vg: Visiongate) -> None:
    """A certificate that cannot be used is an error of its option; one that can is none."""
    text = vg.config.read_text()
    for pair, code, words in (
        (EXPIRED, 2, "server.tls.cert: "),
        ((GOOD[0], SECOND[1]), 2, "server.tls.key: "),
        (GOOD, 0, ""),
    ):
        given = f"port: 0, tls: {{cert: {pair[0]}, key: {pair[1]}}}}}\nadmin"
        vg.config.write_text(text.replace("port: 0}\nadmin", given))
        found = vg("check")
        assert (found.code, words in found.err) == (code, True), found.err


def test_check_a_certificate_that_ends_soon(
    vg: Visiongate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two weeks before its end a certificate is worth a warning, and not before that."""
    given = f"port: 0, tls: {{cert: {GOOD[0]}, key: {GOOD[1]}}}}}\nadmin"
    vg.config.write_text(vg.config.read_text().replace("port: 0}\nadmin", given))
    end = open_certificate(*GOOD).until
    for days, told in ((13, True), (15, False)):
        monkeypatch.setattr("proxy.cli.serving.time.time", lambda d=days: end - d * 86400)
        words = f"server.tls.cert ends in {days} days; renew it, and send SIGHUP"
        assert (words in vg.done("check").err) is told


def test_serve_a_certificate(vg: Visiongate) -> None:
    """With a certificate that has expired no gateway starts, and says so."""
    given = f"port: 0, tls: {{cert: {EXPIRED[0]}, key: {EXPIRED[1]}}}}}\nadmin"
    vg.config.write_text(vg.config.read_text().replace("port: 0}\nadmin", given))
    assert "server.tls.cert: " in (told := vg.refused(2, "serve"))
    assert "certificate has expired" in told
