"""Images and texts that are nearly right: what a mistake, or an attacker, makes of good ones."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

#: Lengths and counts where readers go wrong.
_LIES = [
    *(b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0", b"\xff\xff", b"\0\x01", b"\x01\0"),
    *(bytes(4), b"\xff" * 4, b"\x7f" + b"\xff" * 3, b"\xff" * 3 + b"\x7f", b"\x80\0\0\0"),
]


def mutants(corpus: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """One of the corpus, its first 2000 bytes changed in up to four ways."""
    one = st.sampled_from(corpus)
    # One draw tells all: many small ones would take longer than what is tested.
    return st.builds(_mutate, one, one, st.binary(min_size=4, max_size=24))


def _mutate(data: bytes, other: bytes, script: bytes) -> bytes:
    """Each change takes six bytes: which one, where (two), how long, and two more."""
    mutant = bytearray(data[:2000])
    for start in range(0, len(script), 6):
        change, *numbers = script[start : start + 6].ljust(6, b"\0")
        place = numbers[0] << 8 | numbers[1]
        _change(mutant, change, place % (len(mutant) + 1), other, bytes(numbers[2:]))
    return bytes(mutant)


def _change(data: bytearray, change: int, at: int, other: bytes, more: bytes) -> None:
    length, how, _ = more
    match change % 8:
        case 0:
            data[at : at + 1] = bytes(byte ^ (1 << length % 8) for byte in data[at : at + 1])
        case 1 | 2:
            lie = _LIES[length % len(_LIES)]
            data[at : at + len(lie)] = lie
        case 3:
            data[at:at] = more
        case 4:
            del data[at : at + length % 32]
        case 5:
            begin = (how << 8 | length) % len(other)
            data[at : at + length] = other[begin : begin + length]
        case 6:
            data[at:at] = data[at : at + length]
        case _:
            del data[at:]
