"""A client of the admin API that holds every answer against the API's own description."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.gateway import Gateway, open_gateway

TOKEN = "an-admin-token"
PREFIX = "/admin/v1"
PLANS = {"default": {"limits": ["1M tokens/day"]}, "standard": {"limits": []}}

_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def check(value: Any, schema: Mapping[str, Any], schemas: Mapping[str, Any], at: str = "") -> None:
    """The part of JSON Schema that the API's description uses. Raises AssertionError."""
    if "$ref" in schema:
        check(value, schemas[schema["$ref"].rpartition("/")[2]], schemas, at)
        return
    kinds = schema.get("type", list(_TYPES))
    kinds = [kinds] if isinstance(kinds, str) else kinds
    fits = isinstance(value, tuple(t for k in kinds for t in _flat(_TYPES[k])))
    assert fits, f"{at}: {value!r} is no {kinds}"
    assert value in schema.get("enum", [value]), f"{at}: {value!r}"
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            check(item, schema["items"], schemas, f"{at}[{index}]")
    if isinstance(value, dict):
        known = schema.get("properties", {})
        assert set(schema.get("required", [])) <= value.keys(), f"{at}: {value!r}"
        more = schema.get("additionalProperties", True)
        for name, item in value.items():
            assert name in known or more is not False, f"{at}: {name!r} is not described"
            one = known.get(name, more if isinstance(more, dict) else {})
            check(item, one, schemas, f"{at}.{name}")


def _flat(kind: Any) -> tuple[type, ...]:
    return kind if isinstance(kind, tuple) else (kind,)


@dataclass
class Api:
    """Asks a gateway; `document` is its own description."""

    gateway: Gateway
    document: dict[str, Any]

    async def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = TOKEN,
        media: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any]:
        """The status and the JSON of an answer, which is what its description says."""
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        data = None if body is None else io.BytesIO(raw)
        if data is not None:
            sent["Content-Type"] = media
        url = f"{self.gateway.admin}{PREFIX}{path}"
        async with self.gateway.session.request(method, url, data=data, headers=sent) as answer:
            text = await answer.text()
            if answer.content_type != "application/json":
                return answer.status, text
            told = json.loads(text)
            self._check(method, path, answer.status, told)
            return answer.status, told

    async def done(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """The JSON of an answer that must be a good one."""
        status, told = await self(method, path, body, **more)
        assert status < 300, told
        return told

    async def refused(
        self, status: int, method: str, path: str, body: Any = None, **more: Any
    ) -> dict[str, Any]:
        """The error of an answer that must be this one."""
        found, told = await self(method, path, body, **more)
        assert found == status, told
        error: dict[str, Any] = told["error"]
        return error

    def _check(self, method: str, path: str, status: int, told: Any) -> None:
        operation = self._operation(method, path)
        schemas = self.document["components"]["schemas"]
        if operation is None:  # a path that there is not
            check(told, schemas["Error"], schemas)
            return
        response = operation["responses"][str(status)]
        check(told, response["content"]["application/json"]["schema"], schemas)

    def _operation(self, method: str, path: str) -> dict[str, Any] | None:
        bare = PREFIX + path.partition("?")[0]
        # A path that is written out goes before one with a parameter.
        for template in sorted(self.document["paths"], key=lambda t: t.count("{")):
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), bare):
                found = self.document["paths"][template].get(method.lower())
                if found is not None:
                    return dict(found)
        return None


@contextlib.asynccontextmanager
async def open_api(store_url: str, upstream_url: str, **changes: Any) -> AsyncIterator[Api]:
    """A gateway with an admin token and two plans."""
    given = {"admin": {"token": TOKEN}, "plans": PLANS, **changes}
    async with open_gateway(store_url, upstream_url, **given) as gateway:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        url = f"{gateway.admin}{PREFIX}/openapi.json"
        async with gateway.session.get(url, headers=headers) as answer:
            assert answer.status == 200
            document = await answer.json()
        yield Api(gateway, document)


async def at_once(*calls: Any) -> list[Any]:
    return list(await asyncio.gather(*calls))
