"""YAML files of settings: read, and every problem in them told at once with its path. Knows no particular settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from shunter.scheduler.errors import ConfigError, nearest


def read_mapping(path: Path, *, may_be_empty: bool = False) -> dict[str, Any]:
    """Keys and values of a file.

    Args:
        path: The file.
        may_be_empty: One without any means that all defaults hold.

    Raises:
        ConfigError: It cannot be read, is no YAML (with line and column), or holds something else.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: cannot be read: no such file") from None
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or "is not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read: {reason}") from None
    except (yaml.YAMLError, RecursionError) as problem:
        mark = getattr(problem, "problem_mark", None)
        where = f":{mark.line + 1}:{mark.column + 1}" if mark is not None else ""
        reason = getattr(problem, "problem", None) or "no valid YAML"
        raise ConfigError(f"{path}{where}: no valid YAML: {reason}") from None
    if content is None and may_be_empty:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected keys and values, got {type(content).__name__}")
    return content


def clauses(problems: Iterable[Mapping[str, Any]], keys_at: Callable[[Sequence[int | str]], list[str]]) -> list[str]:
    """One clause per problem: path, what is wrong, the value.

    Args:
        problems: As pydantic's ``ValidationError.errors()`` tells them.
        keys_at: Keys that are known at a place, for a hint where another one stands there.
    """
    found = []
    for error in problems:
        where = path_text(error["loc"])
        if error["type"] == "problems":
            found += [_clause(".".join(filter(None, (where, at))), why) for at, why in error["ctx"]["problems"]]
            continue
        message = error["msg"].removeprefix("Value error, ")
        message = message[:1].lower() + message[1:]
        if error["type"] == "extra_forbidden":
            known = keys_at(error["loc"][:-1])
            message = "unknown key" + (nearest(str(error["loc"][-1]), known) if known else "")
        elif error["type"] not in ("missing", "value_error"):
            message += f", got {error['input']!r}"
        found.append(_clause(where, message))
    return found


def _clause(where: str, message: str) -> str:
    return f"{where}: {message}" if where else message


def path_text(location: Sequence[int | str]) -> str:
    """``("groups", 2, "count")`` as ``groups[2].count``."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
