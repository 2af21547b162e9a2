"""What the C library does with the memory of bodies."""

from __future__ import annotations

import contextlib
import ctypes
from typing import Final

_M_MMAP_THRESHOLD: Final = -3
_LARGE: Final = 1 << 20


def keep_apart() -> None:
    """Have large blocks each in pages of its own, that go back when it is freed.

    glibc does not once such a block has been freed: then it takes up to 32 MiB from its heap,
    where bodies that grow side by side are copied again and again, and leave holes (mallopt(3)).
    Where there is no glibc, nothing is done.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)
