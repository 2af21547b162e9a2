"""Clients of the official SDK, each a process of its own that may be killed.

python -m tests.chaos.leaver URL SECRET
    for each line of stdin, the `user` of a request, a process is forked that asks for a stream;
    it prints its id when it begins, and again with its first chunk
"""

from __future__ import annotations

import os
import signal
import sys

import openai


def main(url: str, secret: str) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    for user in sys.stdin:
        if not os.fork():
            listen(url, secret, user.strip())
            os._exit(0)


def listen(url: str, secret: str, user: str) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key=secret, max_retries=0) as client:
        tell()
        stream = client.chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "user", "content": "Say it."}],
            max_tokens=1000,
            user=user,
            stream=True,
        )
        for _ in stream:
            tell()


def tell() -> None:
    os.write(1, f"{os.getpid()}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
