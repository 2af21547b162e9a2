"""`visiongate export` and `import`."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from proxy.cli.output import as_json, note, say, show_json
from proxy.cli.session import Session, in_session, waiting_for_input
from proxy.config import ConfigError, Problem
from proxy.config.yamlfile import Document, read_yaml
from proxy.manage.document import as_yaml
from proxy.manage.jsonfile import JsonDocument
from proxy.manage.transfer import (
    PEPPER_MISSING,
    Import,
    Progress,
    export_all,
    plan_import,
    tally,
    worded,
)

_SIGNS: Final = {"create": "+", "change": "~"}
_TOLD: Final = {
    True: "{created} to create, {changed} to change, {kept} as they should be; nothing was done",
    False: "{created} created, {changed} changed, {kept} as they should be",
}
#: Characters of a file from which on a terminal shows how far its import is: some 300 keys.
LONG: Final = 100_000


@in_session
async def export(args: Namespace, s: Session) -> None:
    data = await export_all(s.directory)
    text = as_json(data) if _is_json(args.output) else as_yaml(data)
    if args.output in (None, "-"):
        sys.stdout.write(text)
        return
    _write_private(Path(args.output), text)
    keys = sum(len(team["keys"]) for team in data["teams"])
    teams = len(data["teams"])
    note(f"{args.output}: teams {teams}, keys {keys}; it is as private as the store")


def _write_private(path: Path, text: str) -> None:
    """All of it or nothing, readable by its owner only, whatever was there before."""
    if path.exists() and not path.is_file():  # a device or a pipe, not to be replaced; a folder
        path.write_text(text, encoding="utf-8")
        return
    path = path.resolve()  # a link stays one
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        draft.replace(path)
    except OSError as error:
        error.filename = path
        raise
    finally:
        draft.unlink(missing_ok=True)


@in_session
async def restore(args: Namespace, s: Session) -> None:
    with waiting_for_input():  # standard input may be a person
        text, name = _read_text(args.file)
    with _bar(len(text)) as progress:
        with waiting_for_input():  # thousands of keys are read for seconds
            document = _parse(text, name)
        plan = await plan_import(s.directory, s.config, document)
        if not args.dry_run:
            await plan.apply(s.directory, progress)
    if plan.strange:
        note(f"visiongate: warning: {PEPPER_MISSING}")
    _tell(args, plan)


@contextmanager
def _bar(length: int) -> Iterator[Progress]:
    """A bar on a terminal, for a file that takes long; nothing anywhere else."""
    if length < LONG or not sys.stderr.isatty():
        yield lambda done, of: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("teams and keys", total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def _read_text(file: str) -> tuple[str, str]:
    """The text of a file, and the name to call it."""
    name = "standard input" if file == "-" else file
    raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError([Problem(name, None, "", "is not UTF-8 text")]) from None
    if not text.strip():
        raise ConfigError([Problem(name, None, "", "is empty")])
    return text, name


def _parse(text: str, name: str) -> Document | JsonDocument:
    """In JSON, which is also the admin API's, nothing is a reference."""
    return JsonDocument(text, name) if _is_json(name) else read_yaml(text, name, os.environ)


def _is_json(name: str | None) -> bool:
    return name is not None and name.endswith(".json")


def _tell(args: Namespace, plan: Import) -> None:
    if args.json:
        show_json([change.shape() for change in plan.changes])
        return
    for change in plan.changes:
        say(f"{_SIGNS[change.action]} {change.title}")
        for field, (old, new) in change.fields.items():
            was = f"{worded(old)} -> " if change.old else ""
            if change.old or new not in (None, [], {}):
                say(f"    {field}: {was}{worded(new)}")
    say(_TOLD[args.dry_run].format(**tally(plan.changes, plan.kept)))
