"""dataset_info.json: which file a set is in, in which form, under which column names.

The file and its keys are those that LLaMA-Factory's users have: `file_name`, `formatting`, `columns`,
`tags`, `num_samples`. Three keys are ours: `group` (a column; rows that agree in it are never split between
training and validation), `placeholders` (what stands for `{{name}}` and `{{author}}`) and `prompt` (how a
passage and a question are joined). Where `columns` is given, optional columns that it does not name are not
read.

A set may also be named by the path of its file; its form is then told from the columns of its first row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from model.data.rows import SUFFIXES
from model.errors import DataError

REGISTRY_FILE = "dataset_info.json"
Form = Literal["alpaca", "sharegpt", "reading", "alpaca_ranked", "sharegpt_ranked", "kto", "labelled"]
#: What a set is good for: replies to imitate, pairs of which one is preferred, texts with a label.
Use = Literal["imitate", "rank", "label"]

#: Column of each role by default, (required, optional).
COLUMNS: dict[Form, tuple[dict[str, str], dict[str, str]]] = {
    "alpaca": (
        {"prompt": "instruction", "response": "output"},
        {"query": "input", "history": "history", "system": "system", "tools": "tools"},
    ),
    "sharegpt": ({"messages": "conversations"}, {"system": "system", "tools": "tools"}),
    "reading": (
        {"passage": "passage", "questions": "questions", "question": "question", "answer": "answer"},
        {"system": "system"},
    ),
    "alpaca_ranked": (
        {"prompt": "instruction", "chosen": "chosen", "rejected": "rejected"},
        {"query": "input", "history": "history", "system": "system"},
    ),
    "sharegpt_ranked": (
        {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"},
        {"system": "system"},
    ),
    "kto": ({"messages": "messages", "kto_tag": "label"}, {"system": "system"}),
    "labelled": ({"text": "text", "label": "label"}, {}),
}
#: Forms that are not for imitating, and what they are for; `kto` is told apart only to be refused clearly.
USES: dict[Form, Use] = {
    "alpaca_ranked": "rank",
    "sharegpt_ranked": "rank",
    "kto": "rank",
    "labelled": "label",
}
TAGS = (
    "role_tag",
    "content_tag",
    "user_tag",
    "assistant_tag",
    "observation_tag",
    "function_tag",
    "system_tag",
)
READING_PROMPT = "{passage}\n\n{question}"

_FORMATTINGS: dict[str, Form] = {
    "alpaca": "alpaca",
    "sharegpt": "sharegpt",
    "openai": "sharegpt",  # its role and content are told from the turns
    "reading": "reading",
    "labelled": "labelled",
}
_RANKED: dict[Form, Form] = {"alpaca": "alpaca_ranked", "sharegpt": "sharegpt_ranked"}
_OWN_KEYS = {"group", "placeholders", "prompt"}
_KNOWN = {"file_name", "formatting", "columns", "tags", "num_samples", "ranking"} | _OWN_KEYS
_REMOTE = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")
_PREFERRED = ("chosen", "rejected")
_MEDIA = ("images", "videos", "audios")


@dataclass(frozen=True, slots=True)
class SetSpec:
    """One set: where it is and how to read it."""

    name: str
    file: Path
    form: Form | None = None  #: None: told from the first row
    columns: Mapping[str, str] = field(default_factory=dict)  #: role to column
    needed: frozenset[str] = frozenset()  #: roles whose column must occur: required, or named in the registry
    tags: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None
    placeholders: Mapping[str, str] | None = None  #: None: none given, and a set that has some is refused
    prompt: str = READING_PROMPT
    num_samples: int | None = None

    def with_form(self, form: Form, given: Mapping[str, str] | None = None) -> SetSpec:
        """The same set read in that form, its columns as given or, without any, as usual."""
        required, optional = COLUMNS[form]
        columns = required | (dict(given) if given else optional)
        return replace(self, form=form, columns=columns, needed=frozenset(required) | frozenset(given or ()))


def find(names: Sequence[str], folder: Path) -> list[SetSpec]:
    """The sets of these names in `folder/dataset_info.json`, or the files that they are paths of.

    Raises:
        DataError: an unknown name, or an entry that cannot be used, and why.
    """
    if not names:
        raise DataError("no training set was named")
    return [_file(name) or _entry(name, folder) for name in names]


def _file(name: str) -> SetSpec | None:
    path = Path(name)
    if not name.lower().endswith(SUFFIXES):
        return None
    if not path.is_file():
        raise DataError(f"{name} does not exist")
    return SetSpec(name=path.name.split(".")[0], file=path)


def _entry(name: str, folder: Path) -> SetSpec:
    registry = folder / REGISTRY_FILE
    try:
        entries: dict[str, Any] = json.loads(registry.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise DataError(
            f"{registry} does not exist; name a .json or .jsonl file, or a folder with {REGISTRY_FILE}"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{registry} cannot be read: {error}") from error
    if not isinstance(entries, dict):
        raise DataError(f"{registry} must be an object of sets by name")
    if name not in entries:
        raise DataError(f"{registry} has no set {name!r}; it has: {', '.join(sorted(entries)) or 'none'}")
    return _spec(name, entries[name], registry)


def _spec(name: str, entry: Any, registry: Path) -> SetSpec:
    where = f"{registry}, set {name!r}"

    def words(key: str) -> dict[str, str]:
        value = entry.get(key) or {}
        if not isinstance(value, dict) or not all(isinstance(word, str) for word in value.values()):
            raise DataError(f"{where}: {key} must map names to strings")
        return value

    if not isinstance(entry, dict):
        raise DataError(f"{where}: must be an object")
    columns, tags = words("columns"), words("tags")
    if any(role in columns for role in _MEDIA):
        raise DataError(f"{where}: pictures, sound and video are not supported, only text")
    if "file_name" not in entry:
        remote = next((key for key in _REMOTE if key in entry), None)
        raise DataError(
            f"{where}: {remote or 'file_name'} "
            + ("is not followed; download the set and give its file_name" if remote else "is missing")
        )
    for key in ("file_name", "group"):
        if key in entry and not isinstance(entry[key], str):
            raise DataError(f"{where}: {key} must be a string, got {entry[key]!r}")
    if unknown := sorted(set(entry) - _KNOWN):
        raise DataError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(sorted(_KNOWN))}")
    formatting = entry.get("formatting", "alpaca")
    form = _FORMATTINGS.get(formatting) if isinstance(formatting, str) else None
    if form is None:
        raise DataError(f"{where}: formatting {formatting!r} is not one of {', '.join(_FORMATTINGS)}")
    if "kto_tag" in columns:
        form = "kto"
    elif entry.get("ranking") or any(role in columns for role in _PREFERRED):
        if form not in _RANKED:
            raise DataError(f"{where}: a set with formatting {formatting!r} cannot have ranking")
        form = _RANKED[form]
    roles = {role for part in COLUMNS[form] for role in part}
    if unknown := sorted(set(columns) - roles):
        raise DataError(f"{where}: columns: {form} has no {unknown[0]!r}; it has {', '.join(sorted(roles))}")
    if unknown := sorted(set(tags) - set(TAGS)):
        raise DataError(f"{where}: tags: {unknown[0]!r} is not one of {', '.join(TAGS)}")
    prompt = entry.get("prompt", READING_PROMPT)
    if not isinstance(prompt, str) or not prompt.startswith("{passage}") or "{question}" not in prompt:
        raise DataError(f"{where}: prompt must begin with {{passage}} and hold {{question}}, got {prompt!r}")
    limit = entry.get("num_samples")
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise DataError(f"{where}: num_samples must be a positive number, got {limit!r}")
    spec = SetSpec(
        name=name,
        file=registry.parent / entry["file_name"],
        tags=tags,
        group=entry.get("group"),
        placeholders=words("placeholders") if "placeholders" in entry else None,
        prompt=prompt,
        num_samples=limit,
    )
    return spec.with_form(form, columns)
