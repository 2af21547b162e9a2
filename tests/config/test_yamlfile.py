"""YAML and references: what is text, what is a number, and what cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config import ConfigError, parse_config

from .samples import FILE, SMALL, found, problems, read

SYNTAX = {
    "": (None, "is empty"),
    "# nothing\n": (None, "is empty"),
    "null": (1, "is empty"),
    "text": (1, "must be a mapping"),
    "- a": (1, "must be a mapping"),
    "a:\n\tb: 1": (2, "a tab cannot indent YAML; use spaces"),
    "a: 1\nb: @x": (2, "a value cannot begin with this character; quote it"),
    "a: *x": (1, "nothing above is named by this *alias"),
    "a: !x!y z": (1, "a value that begins with ! is a tag"),
    "--- {}\n--- {}": (2, "one document only"),
    "a:\n b: ${X}\n c: {d: ${X}}": (3, 'quote a reference inside { } and [ ]: "${NAME}"'),
    "a: 1\n b: 2": (2, "unexpected ':'"),
    "a: 1\nb\nc: 2": (3, "not a 'key: value'"),
    "a: 1\nb: 'x\n\n\n": (2, "the quote that opens here is never closed"),
    "a: 1\nb: [x\n\n\n": (2, "the { or [ that opens here is never closed"),
    "a: 1\nb: \0": (2, "character #x0000 is not allowed in YAML"),
    'a: "\\q"': (1, "not valid YAML: found unknown escape character 'q'"),
    "<<: 1": (1, "not valid YAML: expected a mapping"),
    "[" * 5000: (None, "is nested too deeply"),
}


@pytest.mark.parametrize(("text", "told"), SYNTAX.items())
def test_syntax(text: str, told: tuple[int | None, str]) -> None:
    """What is not YAML, or no mapping, is one problem with its line."""
    (problem,) = problems(text)
    assert problem.line == told[0]
    assert problem.message.startswith(told[1])


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("admin: {port: 1, port: 2}", "admin.port", "written twice, first on line 7"),
        ("? [a]\n: 1", "", "a key must be text"),
        ("server: &x {host: *x}", "server.host", "an alias stands inside what it names"),
        ("server: !!set {host}", "server", "tags (!...) are not supported"),
        ("server: {support: !hush x}", "server.support", "tags (!...) are not supported"),
        ('server: {support: "\\ud800"}', "server.support", "holds half a character"),
        ('"\\ud800": 1', "", "a key holds half a character"),
    ],
)
def test_structure(text: str, path: str, message: str) -> None:
    """Valid YAML that is no configuration is told where it stands."""
    told = found(SMALL + text)
    assert told[path].startswith(message)


def test_text_stays_text() -> None:
    """A text field keeps what looks like a number or a truth value as it was written."""
    text = SMALL.replace("openai}]", "openai, model: 4.10}]").replace("sk-test", "0123")
    config = read(text + 'server: {support: "${ID}"}', {"ID": "007"})
    assert config.models["gpt-4o"].targets[0].model == "4.10"
    assert config.providers["openai"].secrets == ("0123",)
    assert config.server.support == "007"
    assert type(config.server.support) is str


def test_references_feed_every_type() -> None:
    """A reference can hold a number, a truth value, a size, a duration, a share or a limit."""
    config = read(
        SMALL.replace("embedded", 'embedded, grace: "${SHARE}%"')
        + 'server: {port: "${PORT}", max_body: "${SIZE}", drain: "${N}s", workers: "${N:-auto}"}\n'
        + 'plans: {default: {enforce: "${BOOL}", limits: ["${N} images/day"]}}\n'
        + 'images: {max_pixels: "${UNSET:-2M}"}',
        {"PORT": "81", "SIZE": "1MiB", "N": "1", "BOOL": "false", "SHARE": "7"},
    )
    assert (config.server.port, config.server.max_body, config.server.drain) == (81, 2**20, 1)
    assert (config.server.workers, config.plans["default"].enforce) == (1, False)
    assert config.images.max_pixels == 2_000_000
    assert str(config.plans["default"].limits[0]) == "1 images/day"
    assert str(config.store.grace) == "0.07"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a$$b", "a$b"),
        ("$${A}", "${A}"),
        ("$A", "$A"),
        ("<${A}${A}>", "<onetwoonetwo>"),
        ("${EMPTY}", ""),
        ("${EMPTY:-other}", "other"),
        ("${UNSET:-}", ""),
        ("${UNSET:-a:-$$}", "a:-$"),
        ("${DOLLAR}", "${A}$$"),
    ],
)
def test_interpolation(text: str, value: str) -> None:
    """References are filled in once, an empty name takes the default, and $$ is a dollar."""
    env = {"A": "onetwo", "EMPTY": "", "DOLLAR": "${A}$$"}
    assert read(f"{SMALL}server: {{support: '{text}'}}", env).server.support == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${A}", "environment variable A is not set; set it or write ${A:-default}"),
        ("${A", "a reference is not closed with }"),
        ("${}", "not a reference"),
        ("${a-b}", "not a reference"),
        ("${A:-${B}}", "references do not nest"),
        ("${file:secret}", "a file's path must be absolute"),
        ("${file:/}", "/ is not a regular file"),
        ("${file:/no/such}", "/no/such cannot be read: No such file or directory"),
    ],
)
def test_references_that_cannot_be_filled(text: str, message: str) -> None:
    """A reference that cannot be filled is the only problem of its value."""
    told = found(SMALL.replace("sk-test", f"'{text}'"))
    assert list(told) == ["providers.openai.api_key"]
    assert told["providers.openai.api_key"].startswith(message)


def test_each_unset_name_is_told() -> None:
    """Two unset names in one value are two problems."""
    messages = [problem.message for problem in problems(SMALL.replace("sk-test", "'${A}${B}'"))]
    assert [message[:24] for message in messages] == [
        "environment variable A i",
        "environment variable B i",
    ]


def test_unset_names_in_comments() -> None:
    """What is commented out may name what is not set."""
    assert read("# ${NOT_SET}\n" + SMALL + "# url: ${NOT_SET}\n")


def test_files(tmp_path: Path) -> None:
    """A file's text is used without its last line end, and must be UTF-8."""
    path = tmp_path / "key"
    path.write_bytes(b"sk-file\r\n")
    text = SMALL.replace("sk-test", f'"${{file:{path}}}"')
    assert read(text).providers["openai"].secrets == ("sk-file",)
    path.write_bytes(b"\xff")
    assert found(text) == {"providers.openai.api_key": f"{path} is not UTF-8 text"}


#: Fragments that are near enough to a config for the text to go astray in many ways.
FRAGMENTS = [
    *"{}[]:,-?&*!|>'\"%@`#~1\n \t",
    *("${", "${A}", "${A:-", "${file:/", "$$", "<<: ", "&a ", "*a", "null", "[key]: ", "\n  "),
    *("store: ", "url: embedded", "providers:", "models: ", "gpt-4o: ", "targets: ", "price: "),
    *("plans: ", "limits: ", "5 usd/month", "images: ", "server: ", "port: ", "workers: "),
]


@given(st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=5)).map("".join), st.booleans())
def test_only_config_errors(text: str, after: bool) -> None:
    """Whatever the text, it is a config or a ConfigError that names the file."""
    told = [FILE]
    try:
        parse_config(SMALL + text if after else text, FILE, {"A": "${A}"})
    except ConfigError as error:
        told = [str(problem) for problem in error.problems]
    assert told
    assert all(line.startswith(FILE) for line in told)
