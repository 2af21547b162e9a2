"""The data directory of the embedded Valkey: ours alone, the pepper in it, its socket's path."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SOCKET: Final = "valkey.sock"

#: Bytes of sun_path less its NUL: 107 on Linux, 103 on macOS.
_LONGEST_SOCKET: Final = 103


class EmbeddedStoreError(Exception):
    """The embedded Valkey, or its directory, cannot be used; the message says why."""


@contextlib.contextmanager
def one_error(data: Path) -> Iterator[None]:
    """Tell what the system, or a file's content, has against it as an EmbeddedStoreError."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise EmbeddedStoreError(f"the data directory {data}: {error}") from error


def own_dir(path: Path) -> Path:
    """`path`, made 0700 if missing: a directory of ours that nobody else can write to."""
    path.mkdir(0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise EmbeddedStoreError(f"{path} should be a directory")
    if found.st_uid != os.geteuid():
        raise EmbeddedStoreError(
            f"{path} belongs to uid {found.st_uid}, this is uid {os.geteuid()}: "
            "run as its owner, or choose another directory"
        )
    if found.st_mode & 0o022:
        raise EmbeddedStoreError(f"others may write to {path}: chmod 700 it, or choose another")
    return path


def make_pepper(data_dir: Path) -> str:
    """The pepper kept in `data_dir`, made on first use: 256 random bits, URL-safe text.

    Two at once get the same one. Raises EmbeddedStoreError.
    """
    with one_error(data_dir):
        path = own_dir(data_dir.resolve()) / "pepper"
        if not path.exists():
            _create_pepper(path)
        if path.stat().st_mode & 0o077:
            raise EmbeddedStoreError(f"others may read {path}: chmod 600 it")
        pepper = path.read_text().strip()
        if not pepper:
            # A new one would silently make every key unknown.
            raise EmbeddedStoreError(f"{path} is empty: restore it from a backup")
        return pepper


def _create_pepper(path: Path) -> None:
    descriptor, draft = tempfile.mkstemp(prefix="pepper.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        # As exclusive as O_EXCL, and never seen half written.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        _fsync_dir(path.parent)
    finally:
        os.unlink(draft)


def _fsync_dir(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def short_socket(data: Path) -> str:
    """The socket's path, by way of a symlink in the temporary directory if it is too long.

    The socket itself is always in `data` (an absolute path): commands with different
    temporary directories meet all the same. Raises EmbeddedStoreError.
    """
    path = str(data / SOCKET)
    if len(os.fsencode(path)) <= _LONGEST_SOCKET:
        return path
    name = hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    alias = own_dir(Path(tempfile.gettempdir()) / f"visiongate-{os.geteuid()}") / name
    with contextlib.suppress(FileExistsError):
        alias.symlink_to(data)
    if alias.readlink() != data:
        raise EmbeddedStoreError(f"{alias} should be a symlink to {data}: remove it")
    path = str(alias / SOCKET)
    if len(os.fsencode(path)) > _LONGEST_SOCKET:
        raise EmbeddedStoreError(f"{path} is too long for a unix socket: set a shorter TMPDIR")
    return path


def drop_short_socket(data: Path, path: str) -> None:
    """Remove the symlink that `short_socket` made for `path`, if it did."""
    way = Path(path).parent
    if way != data:
        way.unlink(missing_ok=True)
