"""The OpenAPI document of the admin API, from the table that serves it.

Source: https://spec.openapis.org/oas/v3.1.1.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from proxy import __version__
from proxy.web.admin.fields import Fields
from proxy.web.admin.route import Route
from proxy.web.admin.schemas import SCHEMAS, ref

YAML: Final = "application/yaml"
JSON: Final = "application/json"

#: What any of them may answer instead.
_ALWAYS: Final = (400, 401, 503)
_WITH_BODY: Final = (408, 413, 415)
_ERRORS: Final = {
    400: "A field is wrong; `param` names it",
    401: "Not the admin token",
    404: "There is no such team or key",
    408: "The body did not arrive in time",
    409: "The name is taken, or the record does not allow it",
    413: "The body is too large",
    415: "The body is of a kind that is not taken",
    503: "The store cannot be reached",
}


def describe(routes: Sequence[Route], prefix: str) -> dict[str, Any]:
    """The document, as JSON has it."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(prefix + route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "visiongate admin API",
            "version": __version__,
            "description": "Teams, keys, usage and audit, as the commands' --json has them.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": dict(SCHEMAS),
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    takes = route.document or route.body is not None
    statuses = sorted({*_ALWAYS, *route.errors, *(_WITH_BODY if takes else ())})
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "summary": route.summary,
        "parameters": _parameters(route),
        "responses": {
            str(route.status): {
                "description": route.summary,
                "content": {JSON: {"schema": route.answer}},
            },
            **{str(status): _error(status) for status in statuses},
        },
    }
    if "format" in route.query:
        operation["responses"]["200"]["content"][YAML] = {"schema": {"type": "string"}}
    if takes:
        operation["requestBody"] = _body(route)
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    text = {"type": "string"}
    header = {"name": "x-visiongate-actor", "in": "header", "schema": {**text, "maxLength": 64}}
    changes = route.method != "GET"
    return [
        *({"name": name, "in": "path", "required": True, "schema": text} for name in _names(route)),
        *({"name": n, "in": "query", "schema": one.schema} for n, one in route.query.items()),
        *([{**header, "description": "who the audit is to say it was"}] if changes else ()),
    ]


def _names(route: Route) -> list[str]:
    return re.findall(r"\{(\w+)\}", route.path)


def _body(route: Route) -> dict[str, Any]:
    if route.document:
        kinds: Mapping[str, Any] = {JSON: ref("Document"), YAML: {"type": "string"}}
    else:
        kinds = {JSON: _object(route.body or {})}
    content = {kind: {"schema": schema} for kind, schema in kinds.items()}
    return {"required": not route.bare, "content": content}


def _object(fields: Fields) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: one.schema for name, one in fields.items()},
        "required": [name for name, one in fields.items() if one.required],
        "additionalProperties": False,
    }


def _error(status: int) -> dict[str, Any]:
    return {"description": _ERRORS[status], "content": {JSON: {"schema": ref("Error")}}}
