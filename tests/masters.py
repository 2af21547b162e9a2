"""A master without a process of its own, and workers that it takes for its own."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from proxy import scraping
from proxy.forked import Worker as Forked
from proxy.generation import Generation
from proxy.listeners import Listeners
from proxy.master import Master
from proxy.metrics import alarms


def signals_sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The signals that a master sends to its workers, of which there are none here."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    monkeypatch.setattr(os, "waitpid", lambda *_: (0, 0))
    monkeypatch.setattr(scraping, "leave", lambda *_: None)
    return sent


def idle_master(folder: Path) -> Master:
    master = Master(lambda before: pytest.fail("nothing to prepare"), str)
    master._folder = folder
    master._alarms = alarms(CollectorRegistry())
    return master


def forked(master: Master, pid: int, generation: Generation, **more: Any) -> Forked:
    link = socket.socket()
    link.close()
    worker = master._workers[pid] = Forked(pid, pid, generation, link, **more)
    return worker


def generation(size: int) -> Generation:
    return Generation(None, size, None, Listeners((), (), "", ""), (), ExitStack())  # type: ignore
