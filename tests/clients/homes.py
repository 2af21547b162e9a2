"""Where clients are installed: below the user's cache directory, a folder for each lock."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.clients.clients import DRIVERS, LOCKS, Client

INSTALL_SECONDS: Final = 600
_DONE: Final = ".installed"
_MAKE: Final = ("-m", "venv")


class CannotInstall(Exception):
    """What a client needs is not there, or its registry does not give it."""


def cache() -> Path:
    """XDG Base Directory Specification: $XDG_CACHE_HOME, or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return Path(base if os.path.isabs(base) else Path.home() / ".cache") / "visiongate" / "clients"


def home(client: Client) -> Path:
    """By what is in the lock, and by what runs it: another lock is another folder."""
    if not client.lock:
        return cache()
    lock = LOCKS / client.lock
    files = sorted(lock.iterdir()) if lock.is_dir() else [lock]
    content = b"".join(file.read_bytes() for file in files) + sys.version.encode()
    return cache() / f"{lock.stem}-{hashlib.sha256(content).hexdigest()[:12]}"


def install(client: Client, tell: Callable[[str], None]) -> None:
    """Install what is not yet, and `tell` so; others that want the same wait for it. Raises
    CannotInstall.
    """
    program = "npm" if client.node else "" if client.lock else client.package
    if program and shutil.which(program) is None:
        raise CannotInstall(f"{program} is not on the PATH")
    if not client.lock:
        return
    place, lock = home(client), LOCKS / client.lock
    with _alone(place):
        if (place / _DONE).exists():
            return
        tell(f"installing {lock.stem} in {place}")
        shutil.rmtree(place, ignore_errors=True)
        if client.node:
            shutil.copytree(lock, place)
            _run(("npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"), place)
        else:
            _run((sys.executable, *_MAKE, str(place)), place.parent)
            # The lock is whole: nothing is left to be resolved.
            pip = (str(_python(place)), "-m", "pip", "install", "--quiet", "--no-deps")
            _run((*pip, "--disable-pip-version-check", "-r", str(lock)), place)
        (place / _DONE).touch()


def command(client: Client) -> Sequence[str]:
    """What starts the client's driver."""
    python = str(_python(home(client))) if client.lock else sys.executable
    run = ("node",) if client.node else (python,)
    return (*run, str(DRIVERS / client.driver), *([client.argument] if client.argument else []))


def _python(place: Path) -> Path:
    return place / "bin" / "python"


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(words: Sequence[str], folder: Path) -> None:
    try:
        subprocess.run(
            words,
            cwd=folder,
            check=True,
            timeout=INSTALL_SECONDS,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except subprocess.CalledProcessError as error:
        raise CannotInstall(error.stdout.decode(errors="replace").strip()[-2000:]) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotInstall(str(error)) from error
