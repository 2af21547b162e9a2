"""The yardstick: a pass-through in aiohttp and uvloop with no features at all.

python -m bench.bare PORT UPSTREAM, such as 8080 https://127.0.0.1:8443
"""

from __future__ import annotations

import sys

import aiohttp
import uvloop
from aiohttp import web


async def relay(http: web.Request) -> web.StreamResponse:
    body = await http.read()
    session = http.app[SESSION]
    headers = {"content-type": "application/json"}
    async with session.post(f"{http.app[UPSTREAM]}{http.path}", data=body, headers=headers) as up:
        response = web.StreamResponse(status=up.status)
        response.content_type = up.content_type
        await response.prepare(http)
        async for data in up.content.iter_any():
            await response.write(data)
        await response.write_eof()
        return response


SESSION = web.AppKey("session", aiohttp.ClientSession)
UPSTREAM = web.AppKey("upstream", str)


async def make(upstream: str) -> web.Application:
    app = web.Application(client_max_size=64 * 2**20)
    app[UPSTREAM] = upstream
    app[SESSION] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    app.router.add_post("/{path:.*}", relay)
    return app


if __name__ == "__main__":
    uvloop.install()
    web.run_app(
        make(sys.argv[2]),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        access_log=None,
        backlog=4096,
        print=None,
    )
