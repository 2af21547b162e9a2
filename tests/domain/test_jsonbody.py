"""Reading a body: one JSON object, with one meaning, whatever is thrown at it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.domain import jsonbody
from proxy.domain.errors import BadRequest
from proxy.domain.jsonbody import MOST_LEVELS, MOST_WORK, read_object
from tests.domain.bodies import hello, parse, raw, refused

HUGE = "9" * 5000

NOT_OBJECTS = [
    b"",
    b" ",
    b"null",
    b"[]",
    b'"text"',
    b"1",
    b"{",
    b"{}{}",
    b'{"a":1,}',
    b"{'a':1}",
    b'{"a":01}',
    b'{"a":NaN}',
    b'{"a":Infinity}',
    b'{"a":-Infinity}',
    b'{"a":"\\ud800"}',
    b'{"a":"\\udc00\\ud800"}',
    b'{"\\ud800":1}',
    b'{"a":"\x00"}',
    b'{"a":1}\x00',
    b"\x00",
    b'\xef\xbb\xbf{"a":1}',
    b'{"a":"\xff"}',
    b'{"a":"\xed\xa0\x80"}',
    b'{"\xff":1}',
    '{"a":"é"}'.encode("utf-16"),
    '{"a":"é"}'.encode("latin-1"),
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
]


@pytest.mark.parametrize(
    ("text", "half"),
    [
        (b"\\ud83dx", b"\\ud83d"),
        (b"x\\uDE00", b"\\uDE00"),
        (b"\\ud83d\\ude00\\ud83d", b"\\ud83d"),
        (b"\\\\ude00 \\ud83d\\n", b"\\ud83d"),
    ],
)
def test_half_a_surrogate_pair_is_told(text: bytes, half: bytes) -> None:
    """A text that was cut within a character is told as that, with its place."""
    body = b'{"a":["' + text + b'"]}'
    message = refused(body).message
    assert f"'{half.decode()}' at byte {body.rindex(half)} " in message


@pytest.mark.parametrize("body", NOT_OBJECTS, ids=range(len(NOT_OBJECTS)))
def test_what_is_not_one_object_is_refused(body: bytes) -> None:
    """Anything but one well-formed JSON object in UTF-8 is a 400."""
    assert refused(body).message


@pytest.mark.parametrize(
    ("field", "param"),
    [
        (f'"max_tokens": {HUGE}', "max_tokens"),
        (f'"n": -{HUGE}', "n"),
        (f'"seed": {HUGE}', "seed"),
        (f'"made_up": {{"deep": [{HUGE}]}}', "made_up"),
        (f'"made_up": {HUGE}.5', "made_up"),
        ('"made_up": 1e999', "made_up"),
        (f'"messages": [{{"role": "user", "content": {HUGE}}}]', "messages"),
        ('"made_up": ' + "[" * 300 + "]" * 300, "made_up"),
        ('"tools": [' + '{"a": ' * 300 + "1" + "}" * 300 + "]", "tools"),
    ],
)
def test_the_field_is_named(field: str, param: str) -> None:
    """A number that cannot be held, or too deep a nest, is told with its field."""
    body = raw(field) if not field.startswith('"messages"') else f'{{"model": "m", {field}}}'
    assert refused(body.encode() if isinstance(body, str) else body).param == param


def test_nesting_is_bounded_exactly() -> None:
    """A field may be MOST_LEVELS - 1 lists deep, and not one more."""
    deep = MOST_LEVELS - 1
    parse(raw('"x": ' + "[" * deep + "]" * deep))
    assert "deeply" in refused(raw('"x": ' + "[" * MOST_LEVELS + "]" * MOST_LEVELS)).message


@pytest.mark.parametrize("piece", [b"[],", b"{},", b"1,", b'"",'])
def test_a_body_of_too_many_values_is_refused(piece: bytes) -> None:
    """A body that would take long to decode is refused before it is."""
    count = MOST_WORK // (9 if piece[:1] in b"[{" else 1)
    assert "too many" in refused(b'{"a":[' + piece * (count + 1) + b"1]}").message


def test_a_large_data_uri_is_no_work() -> None:
    """A large text counts as the one value that it is."""
    raw_fields, fields = read_object(b'{"a":"' + b"A" * 5_000_000 + b'"}')
    assert len(fields["a"]) == 5_000_000
    assert len(bytes(raw_fields["a"])) == 5_000_002


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ('{"model": "a", "model": "b"}', "model"),
        ('{"model" \t\r\n: "a", "model":"b"}', "model"),
        ('{"\\u006dodel": "a", "model": "b"}', "model"),
        ('{"m": {"x": 1, "y": {"z": 1, "z": 1}}}', "z"),
        ('{"m": [1, [{"url": "a", "url": "a"}]]}', "url"),
        ('{"m": "a\\":b", "x": {"": 1, "": 2}}', ""),
        ('{"m": "", "m": "\\u0022\\u0022\\u0022\\u0022"}', "m"),
        ('{"m": "\\"x\\": 1", "m": 2, "k": "\\":"}', "m"),
    ],
)
def test_duplicate_keys_are_refused(body: str, key: str) -> None:
    """A key that comes twice in one object is named, wherever it is and however written."""
    error = refused(body.encode())
    assert error.param == key
    assert "twice" in error.message


@pytest.mark.parametrize(
    "text",
    ['say "model": now', '":', '": ":', 'x"\n:', '{"a":1,"a":2}', "\\", '\\":', ':"', '"', "::"],
)
@pytest.mark.parametrize("escaped", [True, False])
def test_text_that_looks_like_keys_is_honest(text: str, escaped: bool) -> None:
    """A text, a key or a value in a list may look like keys and is no duplicate."""
    value = {"a": text, text: [text, {text: text}]}
    body = json.dumps(value, ensure_ascii=escaped).encode()
    assert read_object(body)[1] == value


def test_an_ordinary_body_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing but keys looks like a key, the slow reader has nothing to do."""
    monkeypatch.setattr(jsonbody, "_refuse_duplicates", pytest.fail)
    value = {"a": [{"b": {"c": 1}}, {"b": "text: text"}], "d": {}}
    assert read_object(json.dumps(value).encode())[1] == value


def test_the_same_key_in_two_objects_is_no_duplicate() -> None:
    """Sibling and nested objects may each have a key."""
    value = {"a": {"a": [{"a": 1}, {"a": 2}]}, "b": {"a": 1}}
    assert read_object(json.dumps(value).encode())[1] == value


def test_many_keys_with_one_twice_are_quick_to_refuse() -> None:
    """A duplicate at the end of 200,000 keys is found in one pass."""
    keys = ",".join(f'"k{i}":1' for i in range(200_000))
    assert refused(f'{{"a":{{{keys},"k199999":2}}}}'.encode()).param == "k199999"


def test_the_slow_reader_takes_what_the_fast_one_took() -> None:
    """Numbers that stdlib's JSON would refuse or change are no matter to the duplicate check."""
    body = raw(f'"x": [{"1" * 4000}, 1e308, "\\":"]')
    assert parse(body).fields["x"]


def test_nul_in_text_is_kept() -> None:
    """An escaped NUL is a character like any other."""
    request = parse(raw('"x": "a\\u0000b"'))
    assert bytes(request.fields["x"]) == b'"a\\u0000b"'


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=4), JSON, max_size=5), st.booleans())
def test_reading_agrees_with_the_standard_library(value: dict[str, Any], escaped: bool) -> None:
    """An object without duplicates is read as the standard library reads it, kept as it came."""
    raw_fields, fields = read_object(json.dumps(value, ensure_ascii=escaped).encode())
    assert fields == value
    assert {name: json.loads(bytes(v)) for name, v in raw_fields.items()} == value


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda t: t.encode(errors="replace")))
def test_garbage_is_refused_and_no_more(body: bytes) -> None:
    """Whatever the bytes, they are an object to the standard library too, or a bad request."""
    try:
        _, fields = read_object(body)
    except BadRequest:
        return
    assert fields == json.loads(body)


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), JSON), max_size=4),
    st.sampled_from(["", ":"]),
)
def test_exactly_the_duplicates_are_refused(pairs: list[tuple[str, Any]], colon: str) -> None:
    """An object is refused for duplicates if and only if it has some."""
    text = ",".join(f'"{k}" : {json.dumps(v, ensure_ascii=False)}' for k, v in pairs)
    body = f'{{"outer": {{{text}}}, "x": "{colon}"}}'.encode()
    names = [name for name, _ in pairs]
    if len(set(names)) == len(names):
        assert read_object(body)[1]["outer"] == dict(pairs)
    else:
        with pytest.raises(BadRequest, match="twice"):
            read_object(body)


def test_hello_is_read() -> None:
    """The plain request that the others vary is a valid one."""
    assert parse(hello()).model == "gpt-4o"
