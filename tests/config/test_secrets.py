"""No secret reaches an error message, a repr or a log."""

from __future__ import annotations

import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config import ConfigError, parse_config

from .samples import FILE, SMALL, read

SECRET = "hunter2-hunter2!hunter2"

#: Every secret of the contract with something wrong about it or beside it; S is the secret.
WRONG = [
    SMALL.replace("sk-test", "'S S'"),
    SMALL.replace("sk-test", '"S\\n"'),
    SMALL.replace("sk-test", "S, api_keys: [S]"),
    SMALL.replace("api_key:", "api_keys:").replace("sk-test", "S"),
    SMALL.replace("sk-test", "[S]"),
    SMALL.replace("sk-test", "{a: S}"),
    SMALL.replace("sk-test", "*S"),
    SMALL.replace("sk-test", "!S"),
    SMALL.replace("sk-test", "!S!x y"),
    SMALL.replace("sk-test", "@S"),
    SMALL.replace("sk-test", "%S"),
    SMALL.replace("sk-test", "'S"),
    SMALL.replace("sk-test", "[S"),
    SMALL.replace("sk-test", "S: S"),
    SMALL.replace("sk-test", "&S &S S"),
    SMALL.replace("sk-test", "${S S}"),
    SMALL.replace("embedded", "'redis://:S@'"),
    SMALL.replace("embedded", "'mysql://u:S@h'"),
    SMALL.replace("embedded", "'redis://:S#@h'"),
    SMALL.replace("embedded", "'redis://h/?password=S', grace: x"),
    SMALL.replace("https://", "https://u:S@"),
    SMALL + "images: {egress_proxy: 'http://u:S@h'}",
    SMALL + "images: {egress_proxy: 'https://u:S@h:3128'}",
    SMALL + "images: {egress_proxy: 'http://u:12#S@h:3128'}",
    SMALL + "plans: {p: {images: {egress_proxy: 'http://u:S@h:3128'}}}",
    SMALL + "admin: {token: 'S S', prt: 1}",
    SMALL + "keys: {pepper: 'S,S,x'}",
    SMALL + "keys: {pepper: {x: S}}",
]


@pytest.mark.parametrize("text", WRONG)
def test_errors(text: str) -> None:
    """An error about a secret, or beside one, does not repeat it, nor does its traceback."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text.replace("S", SECRET), FILE, {})
    assert caught.value.problems
    assert SECRET not in "".join(traceback.format_exception(caught.value))


#: K is a reference.
FIELDS = [
    "server: {host: K}",
    "server: {max_body: K}",
    "server: {drain: K}",
    "server: {port: K}",
    "server: {trusted_proxies: [K]}",
    "plans: {p: {limits: [K]}}",
    "plans: {p: {models: [K]}}",
    "plans: {p: {on_client_gone: K}}",
    "images: {hosts: {internal: [K]}}",
    "images: {rewrite: [{from: K, to: K}]}",
    "images: {mode: K}",
]


@pytest.mark.parametrize("text", FIELDS)
@pytest.mark.parametrize("secret", [SECRET, "two\nlines / of 'it'"])
def test_references_in_the_wrong_place(text: str, secret: str) -> None:
    """What a reference was filled with is told as the reference, in whatever field it was."""
    with pytest.raises(ConfigError) as caught:
        parse_config(SMALL + text.replace("K", '"${KEY}"'), FILE, {"KEY": secret})
    assert secret not in str(caught.value)
    assert repr(secret)[1:-1] not in str(caught.value)


@given(st.text(min_size=12, max_size=40))
def test_any_secret_of_the_environment(secret: str) -> None:
    """Whatever the secret is, a config that is wrong about it does not tell it."""
    text = SMALL.replace("sk-test", '"${KEY}", kind: "${KEY}"').replace("embedded", '"${KEY}"')
    with pytest.raises(ConfigError) as caught:
        parse_config(text + 'keys: {pepper: "${KEY},"}', FILE, {"KEY": secret})
    assert secret not in str(caught.value)


def test_reprs() -> None:
    """A config can be printed, logged and dumped: secrets show as stars."""
    config = read(
        f"""\
store: {{url: "redis://u:{SECRET}@h:1/2?password={SECRET}"}}
keys: {{pepper: "{SECRET},{SECRET}-2"}}
admin: {{token: {SECRET}}}
images: {{egress_proxy: "http://u:{SECRET}@proxy:3128"}}
providers:
  one: {{base_url: "https://a.example/v1", api_key: {SECRET}}}
  two: {{base_url: "https://a.example/v1", api_keys: [{SECRET}]}}
models: {{gpt-4o: {{targets: [{{provider: one}}]}}}}
"""
    )
    assert config.admin.token.get_secret_value() == SECRET
    assert config.store.address == "redis://h:1/2"
    assert SECRET not in repr(config) + str(config) + config.model_dump_json()
    assert SECRET not in repr(config.model_dump())
