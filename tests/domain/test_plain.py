"""The short way for plain requests; `parse` holds each of them against the rules."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.domain.errors import BadRequest
from proxy.domain.parameters import LARGEST_CAP, LARGEST_N, PART_DETAILS, ROLES
from proxy.domain.plain import plain_chat
from proxy.domain.steps import STEP
from tests.domain.bodies import IMAGE, TEXT, VISION, asks, hello, parse, raw, refused

USAGE = {"stream": True, "stream_options": {"include_usage": True}}
PLAIN: list[dict[str, Any]] = [
    VISION,
    hello(),
    hello(stream=False, temperature=0, top_p=0.9, n=LARGEST_N, max_tokens=LARGEST_CAP, seed=2**70),
    hello(**USAGE, max_completion_tokens=5, max_tokens=7, stop=["a", "b"], user="u"),
    hello(messages=[{"role": role, "content": 'é"\\\n', "name": "n"} for role in ROLES]),
    asks(TEXT, IMAGE, detail="low"),
    asks(*({**IMAGE, "image_url": {"url": "http:", "detail": detail}} for detail in PART_DETAILS)),
]


@pytest.mark.parametrize("body", PLAIN, ids=range(len(PLAIN)))
@pytest.mark.parametrize("escaped", [True, False])
@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":"), (" ,\n", "\t: ")])
def test_plain_requests(body: dict[str, Any], escaped: bool, separators: tuple[str, str]) -> None:
    """What most clients send goes the short way, however it is written."""
    written = json.dumps(body, ensure_ascii=escaped, separators=separators).encode()
    assert plain_chat(written) is not None
    assert parse(written)


def test_a_plain_request_is_not_kept_twice() -> None:
    """Of what was decoded only the texts are kept; the messages stay as they came."""
    written = json.dumps(VISION).encode()
    plain = plain_chat(written)
    assert plain is not None
    assert (plain.turns, plain.messages) == (2, ())
    assert plain.texts == ["system", "Be brief.", "user", "image_url", "text", TEXT["text"]]
    assert "brief" not in repr(plain)


FULL = json.dumps(
    hello(
        **USAGE,
        messages=[
            {
                "role": "user",
                "name": "n",
                "content": [TEXT, {**IMAGE, "image_url": {"url": "https://u", "detail": "low"}}],
            }
        ],
        detail="low",
        stop="x",
    )
)
KEYS = sorted({key for key in FULL.split('"') if f'"{key}":' in FULL})


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("spelt", ["{}", "\\u00{:x}{}"])
def test_a_plain_request_has_no_key_twice(key: str, spelt: str) -> None:
    """A name that comes twice is found, wherever it is and however it is written."""
    assert plain_chat(FULL.encode())
    spelt = spelt.format(key) if spelt == "{}" else spelt.format(ord(key[0]), key[1:])
    at = FULL.index(f'"{key}":')
    value = json.dumps(json.JSONDecoder().raw_decode(FULL, at + len(key) + 4)[0])
    body = f'{FULL[:at]}"{spelt}": {value}, {FULL[at:]}'
    assert refused(body.encode()).param == key


def test_quotes_in_a_text_hide_no_key() -> None:
    """Quotes that are escaped by number do not stand for those of a name that was dropped."""
    twice = '"user": "a", "user": "' + 4 * "\\u0022" + '"'
    assert refused(raw(twice)).param == "user"


def test_the_short_way_has_an_end() -> None:
    """A long body is read in steps, and one with an image in it as one that may be long."""
    size = STEP - len(json.dumps(hello(user="")))
    for more, plain in ((0, True), (1, False)):
        body = json.dumps(hello(user="x" * (size + more))).encode()
        assert bool(plain_chat(body)) == plain
        assert parse(body)
    for scheme in ("data", "DATA"):
        data = {"type": "image_url", "image_url": {"url": f"{scheme}:image/png;base64,QUJD"}}
        assert plain_chat(json.dumps(asks(data)).encode()) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"stream_options": {}},
        {"stream": False, "stream_options": {"include_usage": True}},
        {"max_tokens": 0},
        {"max_completion_tokens": LARGEST_CAP + 1},
        {"max_tokens": 5.0},
        {"n": LARGEST_N + 1},
        {"temperature": 2.01},
        {"temperature": True},
        {"detail": "original"},
        {"messages": []},
        {"messages": [{"role": "user", "content": []}]},
        {"messages": [{"role": "bot", "content": "x"}]},
        {"model": ""},
        {"store": True},
    ],
)
def test_what_the_rules_refuse_is_not_plain(fields: dict[str, Any]) -> None:
    """The short way ends where a rule has something to say."""
    assert refused(hello(**fields)).param


TEXTS = st.text(max_size=6)
LINKS = st.fixed_dictionaries(
    {"url": st.sampled_from(("https://a", "HTTPS://a", "data:,", "x", ""))},
    optional={"detail": st.sampled_from((*PART_DETAILS, None, "x"))},
)
PARTS = st.builds(lambda text: {"type": "text", "text": text}, TEXTS) | st.builds(
    lambda link: {"type": "image_url", "image_url": link}, LINKS
)
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from((*ROLES, "x")), "content": TEXTS | st.lists(PARTS, max_size=3)},
    optional={"name": TEXTS | st.none()},
)
COUNTS = st.sampled_from((None, -1, 0, 1, 128, 129, 2**31 - 1, 2**31, 1.0, 0.5, True, "1"))
OTHERS = st.none() | st.booleans() | st.integers() | st.floats(0, 1) | TEXTS | st.lists(TEXTS)
REQUESTS = st.fixed_dictionaries(
    {"model": TEXTS, "messages": st.lists(MESSAGES, max_size=3)},
    optional={
        **dict.fromkeys(("max_tokens", "max_completion_tokens", "n", "temperature"), COUNTS),
        **dict.fromkeys(("top_p", "seed", "stop", "user", "presence_penalty", "x"), OTHERS),
        "stream": st.sampled_from((None, True, False, 1)),
        "stream_options": st.sampled_from((None, {}, USAGE["stream_options"], [], {"x": 1})),
        "detail": st.sampled_from((None, "low", "original", 1)),
    },
)


@given(REQUESTS, st.booleans())
def test_the_short_way_is_the_long_one(body: dict[str, Any], escaped: bool) -> None:
    """Whatever goes the short way is what the rules make of it, and none that they refuse does."""
    try:
        parse(json.dumps(body, ensure_ascii=escaped).encode())
    except BadRequest:
        return
