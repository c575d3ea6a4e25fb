"""Settings of a command from its flags and a TOML file, as typed dataclasses.

The fields of several dataclasses stand side by side under their own names; a name that two share goes to
both. Flags win over the file. An unknown key is an error that names the likeliest one meant.
"""

from __future__ import annotations

import argparse
import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from model.errors import TrainingError

T = TypeVar("T")


def add_options(parser: argparse.ArgumentParser, classes: Sequence[type], help_of: Mapping[str, str]) -> None:
    """A flag for every field, spelled with _ or -; what is not given stays out of the namespace."""
    added: set[str] = set()
    for cls in classes:
        hints = get_type_hints(cls)
        for field in fields(cls):
            if field.name in added or get_origin(hints[field.name]) is Mapping:
                continue
            added.add(field.name)
            names = dict.fromkeys((f"--{field.name}", f"--{field.name.replace('_', '-')}"))
            described = help_of.get(field.name, "") + _default(field)
            parser.add_argument(*names, **_kind(hints[field.name]), default=argparse.SUPPRESS, help=described)


def gather(classes: Sequence[type], flags: Mapping[str, Any], file: Path | None) -> dict[str, Any]:
    """Settings by name: the file's, and over them those of `flags` that are fields.

    Raises:
        TrainingError: a file that cannot be read, an unknown key, or a value of another type.
    """
    hints = {
        name: hint for cls in classes for name, hint in get_type_hints(cls).items() if name in _names(cls)
    }
    values: dict[str, Any] = {}
    if file is not None:
        for key, value in _toml(file).items():
            if key not in hints:
                near = difflib.get_close_matches(key, hints, 1)
                meant = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(sorted(hints))}"
                raise TrainingError(f"{file}: unknown key {key!r}{meant}")
            values[key] = value
    values |= {key: value for key, value in flags.items() if key in hints}
    return {key: _typed(key, value, hints[key]) for key, value in values.items()}


def build(cls: type[T], values: Mapping[str, Any]) -> T:
    """The dataclass with those of `values` that are its fields.

    Raises:
        TrainingError: a field that has no default is missing.
    """
    own = _names(cls)
    required = [
        name for name, field in own.items() if field.default is MISSING and field.default_factory is MISSING
    ]
    if missing := [name for name in required if name not in values]:
        raise TrainingError(f"--{missing[0]} is needed (or {missing[0]} in the file given by --config)")
    return cls(**{key: value for key, value in values.items() if key in own})


def _names(cls: type) -> dict[str, Field[Any]]:
    return {field.name: field for field in fields(cls)}


def _default(field: Field[Any]) -> str:
    shown = field.default is not MISSING and field.default not in (None, (), "")
    text = " ".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
    return f" (default: {text})" if shown else ""


def _inner(hint: Any) -> Any:
    """The type itself, where None is allowed too."""
    if isinstance(hint, UnionType) or get_origin(hint) is Union:  # a Literal or None is typing's Union
        return next(part for part in get_args(hint) if part is not NoneType)
    return hint


def _kind(hint: Any) -> dict[str, Any]:
    """What argparse needs to know about a type."""
    hint = _inner(hint)
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint)}
    if get_origin(hint) is tuple:
        return {"nargs": "+", "metavar": "NAME"}
    return {"type": hint, "metavar": {int: "N", float: "X", Path: "PATH"}.get(hint, "NAME")}


def _typed(key: str, value: Any, hint: Any) -> Any:
    """The value as the field wants it."""
    hint = _inner(hint)
    if get_origin(hint) is tuple:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
            raise TrainingError(f"{key} should be one or more names, it is {value!r}")
        return tuple(name.strip() for part in parts for name in part.split(",") if name.strip())
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise TrainingError(f"{key} should be one of {', '.join(get_args(hint))}, it is {value!r}")
        return value
    if hint is Path and isinstance(value, str):
        return Path(value).expanduser()
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    plain = get_origin(hint) or hint
    if not isinstance(value, plain) or (plain is int and isinstance(value, bool)):
        raise TrainingError(f"{key} should be {getattr(plain, '__name__', plain)}, it is {value!r}")
    return value


def _toml(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            return tomllib.load(opened)
    except OSError as error:
        raise TrainingError(f"{file} cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainingError(f"{file} is not valid TOML: {error}") from error
