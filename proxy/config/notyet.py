"""What the contract promises and the code cannot do yet.

A value that is not in its row is refused by name; a row is deleted when its feature lands.
"""

from __future__ import annotations

from typing import Final

#: Where (`*` is any key or index), and what can be used there.
NOT_YET: Final[dict[str, tuple[str, ...]]] = {
}
