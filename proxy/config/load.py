"""From a file and an environment to a Config, or to everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from .block import Block
from .checks import find_problems
from .problems import ConfigError, Path, Problem, nearest
from .schema import Config
from .yamlfile import read_yaml

#: pydantic's error types in our words; a value is never repeated, for it may be a secret.
#: Source: https://docs.pydantic.dev/latest/errors/validation_errors/
_MESSAGES: Final = {
    "missing": "required",
    "string_type": "must be text",
    "int_type": "must be a whole number, without quotes",
    "float_type": "must be a number, without quotes",
    "decimal_type": "must be a number, without quotes",
    "is_instance_of": "must be a number, without quotes",
    "bool_type": "must be true or false, without quotes",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "literal_error": "must be {expected}",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
}


def load_config(path: FilePath, env: Mapping[str, str]) -> Config:
    """Read a file. Raises ConfigError, also where it is missing or not text."""
    file = str(path)
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        problem = Problem(file, line, "", "is not UTF-8 text")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        problem = Problem(file, None, "", f"cannot be read: {reason}")
    else:
        return parse_config(text, file, env)
    raise ConfigError([problem])


def parse_config(text: str, file: str, env: Mapping[str, str]) -> Config:
    """Read YAML text; `file` is what problems name. Raises ConfigError."""
    document = read_yaml(text, file, env)
    if document.data is None:
        raise ConfigError(document.problems)
    data = _with_pepper(document.data, env)
    config, found = _validate(data)
    told = {path for path, _ in found}
    found += [finding for finding in find_problems(data) if finding[0] not in told]
    problems = document.problems + [
        document.problem(path, message) for path, message in found if not document.unreadable(path)
    ]
    if config is None or problems:
        raise ConfigError(problems)
    return config


def _with_pepper(data: dict[str, object], env: Mapping[str, str]) -> dict[str, object]:
    """The pepper's default is the environment's, where that has one."""
    keys = data.get("keys") or {}
    pepper = env.get("VISIONGATE_KEY_PEPPER")
    if pepper is None or not isinstance(keys, dict) or keys.get("pepper") is not None:
        return data
    return data | {"keys": keys | {"pepper": pepper}}


def _validate(data: dict[str, object]) -> tuple[Config | None, list[tuple[Path, str]]]:
    blocks: dict[int, type[Block]] = {}
    try:
        return Config.model_validate(data, context=blocks), []
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
    return None, list(_findings(details, data, blocks))


def _findings(
    details: list[ErrorDetails], data: dict[str, object], blocks: Mapping[int, type[Block]]
) -> Iterator[tuple[Path, str]]:
    for detail in details:
        if detail["type"] == "default_factory_not_called":
            continue  # what it would have read is wrong, and told
        path = detail["loc"]
        if path and path[-1] == "[key]" and detail["type"] == "value_error":
            path = path[:-1]
        if detail["type"] == "extra_forbidden":
            block = blocks[id(_get(data, path[:-1]))]
            yield path, f"unknown key{nearest(str(path[-1]), block.keys_known())}"
        else:
            yield path, _message(detail)


def _message(detail: ErrorDetails) -> str:
    context: Mapping[str, Any] = detail.get("ctx", {})
    if detail["type"] == "value_error":
        return str(context["error"])
    message = _MESSAGES.get(detail["type"], detail["msg"])
    return message.format(**context) if detail["type"] in _MESSAGES else message


def _get(value: Any, path: Path) -> object:
    for part in path:
        value = value[part]
    return value
