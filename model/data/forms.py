"""Rows to conversations, one function for each form.

    alpaca    instruction, input, output[, history, system]
    sharegpt  conversations (or messages): turns of from/value or role/content[, system]
    reading   passage, questions: [{question, answer}][, system]
    ranked    as alpaca or sharegpt, but two replies to the last question: chosen, rejected

Every form ends in the same thing: groups of conversations that begin alike, one conversation a group except
in reading sets, and in preference sets, where it is two: the chosen one, then the rejected one. A
conversation is an optional system turn, then user and assistant in turn. Tool descriptions are not read and
conversations in which tools speak are left out; both are counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from model.chat import Message, Role
from model.data.registry import USES, Form, SetSpec, Use
from model.data.rows import Problem, Row, first, read
from model.errors import DataError

#: Half of a character outside the basic plane: JSON can spell it, no text holds it.
HALF_CHARACTER = re.compile("[\ud800-\udfff]")
#: Stand-ins that identity sets use.
PLACEHOLDER = re.compile(r"\{\{ *(name|author) *\}\}")

Conversation = tuple[Message, ...]

_ROLES: dict[str, Role | None] = {  # None: a tool speaks
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "observation": None,
    "tool": None,
    "function": None,
    "function_call": None,
    "tool_call": None,
}


@dataclass(frozen=True, slots=True)
class Example:
    """What one row says: conversations that begin alike, usually one."""

    conversations: tuple[Conversation, ...]
    file: Path
    row: int
    group: str | None = None  #: examples that agree in it stay on one side of a split


@dataclass(slots=True)
class Loaded:
    """The examples of one set and what was left out."""

    spec: SetSpec
    examples: list[Example] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    rows: int = 0
    tools_ignored: int = 0  #: rows whose tool descriptions were not read
    tool_rows: int = 0  #: rows left out because a tool speaks in them


class _Malformed(Exception):
    """What is wrong with the row at hand."""


class _ToolSpeaks(Exception):
    """The row holds a tool's turn."""


def load(spec: SetSpec, max_samples: int | None = None, use: Use = "imitate") -> Loaded:
    """Read a set, at most its first `max_samples` rows, for imitating its replies or for ranking them.

    Raises:
        DataError: the file as a whole cannot be used: unreadable, empty, without a column that is needed, or
            a set for something else.
    """
    rows, problems = read(spec.file)
    rows, problems = first(rows, problems, max_samples, spec.num_samples)
    spec = _settled(spec, rows, use)
    _check_use(spec, use)
    _check_columns(spec, rows)
    loaded = Loaded(spec, problems=problems, rows=len(rows) + len(problems))
    tools = spec.columns.get("tools")
    for row in rows:
        loaded.tools_ignored += bool(tools and row.values.get(tools))
        try:
            loaded.examples.append(_example(row, spec))
        except _Malformed as error:
            loaded.problems.append(Problem(spec.file, row.number, str(error)))
        except _ToolSpeaks:
            loaded.tool_rows += 1
    loaded.problems.sort(key=lambda problem: problem.row)
    return loaded


def _settled(spec: SetSpec, rows: list[Row], use: Use) -> SetSpec:
    """The set with its form known."""
    if spec.form is not None:
        return spec
    columns = rows[0].values
    messages = next((name for name in ("conversations", "messages") if name in columns), None)
    if {"chosen", "rejected"} <= set(columns) and (use == "rank" or "output" not in columns):
        if messages is None:
            return spec.with_form("alpaca_ranked")
        return _with_messages(spec, "sharegpt_ranked", messages)
    if messages is not None and isinstance(columns.get("label"), bool):
        return _with_messages(spec, "kto", messages)
    if "passage" in columns and "questions" in columns:
        return spec.with_form("reading")
    if messages is not None:
        return _with_messages(spec, "sharegpt", messages)
    if "instruction" in columns:
        return spec.with_form("alpaca")
    needed = "instruction and output; conversations or messages; or passage and questions"
    raise DataError(
        f"{spec.file}: its first row has the columns {_listed(columns)}, which is no form known here "
        f"({needed}). Name the columns in a dataset_info.json."
    )


def _with_messages(spec: SetSpec, form: Form, column: str) -> SetSpec:
    """A set of turns, which stand in this column."""
    settled = spec.with_form(form)
    return replace(settled, columns=dict(settled.columns) | {"messages": column})


def _check_use(spec: SetSpec, use: Use) -> None:
    """Refuse a set that is for something else, and say for what."""
    found = USES.get(spec.form or "alpaca", "imitate")
    if spec.form == "kto" and use == "rank":
        raise DataError(
            f"{spec.file}: its replies are marked good or bad one by one (KTO) and are no pairs. DPO and the "
            "reward head learn from pairs: give each row two replies, chosen and rejected"
        )
    if found == use:
        return
    if found == "rank":
        raise DataError(
            f"{spec.file}: its columns are those of a preference set, which has no single reply to imitate; "
            "it cannot be used here, only with `model dpo` and `model reward`"
        )
    if use == "rank":
        raise DataError(
            f"{spec.file} is no preference set: each row needs two replies, chosen and rejected (and in "
            'dataset_info.json its entry needs "ranking": true)'
        )
    raise DataError(f"{spec.file}: texts with labels are for `python -m model classify train`")


def _check_columns(spec: SetSpec, rows: list[Row]) -> None:
    """Refuse a column that no row has, before every single row complains of it."""
    seen = {column for row in rows for column in row.values}
    needed = {role: spec.columns[role] for role in sorted(spec.needed - {"question", "answer"})}
    for role, column in (needed | ({"group": spec.group} if spec.group else {})).items():
        if column not in seen:
            raise DataError(
                f"{spec.file} has no column {column!r} ({role} of the {spec.form} form); it has "
                f"{_listed(seen)}. Name the columns in dataset_info.json."
            )


def _example(row: Row, spec: SetSpec) -> Example:
    conversations, group = _FORMS[spec.form or "alpaca"](row.values, spec)
    if spec.group:
        value = row.values.get(spec.group)
        if value is None:
            raise _Malformed(f"column {spec.group!r} (group) is missing")
        group = str(value)
    if group and HALF_CHARACTER.search(group):
        raise _Malformed("its group holds half a character (an unpaired surrogate)")
    filled = tuple(
        tuple(Message(role=turn["role"], content=_filled(turn["content"], spec)) for turn in turns)
        for turns in conversations
    )
    return Example(filled, spec.file, row.number, group)


def _alpaca(values: Mapping[str, Any], spec: SetSpec) -> tuple[list[Conversation], None]:
    turns = _system(values, spec)
    history = spec.columns.get("history")
    pairs = (values.get(history) or []) if history else []
    if not isinstance(pairs, list):
        raise _Malformed(f"{history!r} must be a list of pairs, is {pairs!r:.60}")
    for number, pair in enumerate(pairs, 1):
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(side, str) for side in pair)):
            raise _Malformed(f"{history!r}, pair {number}: must be [instruction, reply]")
        turns += [Message(role="user", content=pair[0]), Message(role="assistant", content=pair[1])]
    asked = [_string(values, spec.columns.get("prompt")), _optional(values, spec.columns.get("query"))]
    prompt = "\n".join(part for part in asked if part)
    if not prompt.strip():
        raise _Malformed("the instruction is empty")
    reply = _string(values, spec.columns.get("response"))
    turns += [Message(role="user", content=prompt), Message(role="assistant", content=reply)]
    return [tuple(turns)], None


def _sharegpt(values: Mapping[str, Any], spec: SetSpec) -> tuple[list[Conversation], None]:
    column = spec.columns.get("messages") or ""
    raw = values.get(column)
    if not isinstance(raw, list) or not raw:
        raise _Malformed(f"column {column!r} must be a list of turns")
    said = [_turn(turn, number, spec) for number, turn in enumerate(raw, 1)]
    system = said[:1] if said[0]["role"] == "system" else []  # before the column, as LLaMA-Factory has it
    turns = said[len(system) :]
    if not turns:
        raise _Malformed("holds only a system turn")
    for i, turn in enumerate(turns):
        due = "assistant" if i % 2 else "user"
        if turn["role"] != due:
            raise _Malformed(f"turn {len(system) + i + 1} is the {turn['role']}'s where the {due}'s is due")
    return [(*(system or _system(values, spec)), *turns)], None


def _reading(values: Mapping[str, Any], spec: SetSpec) -> tuple[list[Conversation], str]:
    passage = _string(values, spec.columns.get("passage"))
    if not passage.strip():
        raise _Malformed("the passage is empty")
    column = spec.columns.get("questions") or ""
    pairs = values.get(column)
    if not isinstance(pairs, list) or not pairs:
        raise _Malformed(f"column {column!r} must be a list of questions with their answers")
    behind = spec.prompt.removeprefix("{passage}")
    conversations = []
    for number, pair in enumerate(pairs, 1):
        if not isinstance(pair, dict):
            raise _Malformed(f"{column!r}, {number}: must be an object")
        try:
            question = _string(pair, spec.columns.get("question"))
            answer = _string(pair, spec.columns.get("answer"))
        except _Malformed as error:
            raise _Malformed(f"{column!r}, {number}: {error}") from error
        if not question.strip():
            raise _Malformed(f"{column!r}, {number}: the question is empty")
        prompt = passage + behind.replace("{question}", question)
        turns = [Message(role="user", content=prompt), Message(role="assistant", content=answer)]
        conversations.append((*_system(values, spec), *turns))
    return conversations, passage


def _alpaca_ranked(values: Mapping[str, Any], spec: SetSpec) -> tuple[list[Conversation], None]:
    replies = [_string(values, spec.columns.get(role)) for role in ("chosen", "rejected")]
    imitated = replace(spec, columns={**spec.columns, "response": spec.columns["chosen"]})
    asked, _ = _alpaca(values, imitated)
    said = [Message(role="assistant", content=reply) for reply in replies]
    return _pair(asked[0][:-1], said[0], said[1]), None


def _sharegpt_ranked(values: Mapping[str, Any], spec: SetSpec) -> tuple[list[Conversation], None]:
    ((*turns,),), _ = _sharegpt(values, spec)
    if turns[-1]["role"] != "user":
        raise _Malformed("the turns must end with the user's, which chosen and rejected reply to")
    replies = []
    for role in ("chosen", "rejected"):
        column = spec.columns.get(role) or ""
        raw = values.get(column)
        # LLaMA-Factory writes one turn, trl a list that ends with it
        turn = raw[-1] if isinstance(raw, list) and raw else raw
        try:
            reply = Message(role="assistant", content=turn) if isinstance(turn, str) else _turn(turn, 1, spec)
        except _Malformed as error:
            raise _Malformed(f"column {column!r}: {error}") from error
        if reply["role"] != "assistant":
            raise _Malformed(f"column {column!r} must be the assistant's turn, is the {reply['role']}'s")
        replies.append(reply)
    return _pair(tuple(turns), replies[0], replies[1]), None


def _pair(asked: Conversation, chosen: Message, rejected: Message) -> list[Conversation]:
    if chosen["content"] == rejected["content"]:
        raise _Malformed("chosen and rejected are the same: there is nothing to prefer")
    return [(*asked, chosen), (*asked, rejected)]


_FORMS: dict[Form, Callable[[Mapping[str, Any], SetSpec], tuple[list[Conversation], str | None]]] = {
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "reading": _reading,
    "alpaca_ranked": _alpaca_ranked,
    "sharegpt_ranked": _sharegpt_ranked,
}


def _turn(turn: Any, number: int, spec: SetSpec) -> Message:
    if not isinstance(turn, dict):
        raise _Malformed(f"turn {number} must be an object")
    role_key = spec.tags.get("role_tag") or ("from" if "from" in turn else "role")
    content_key = spec.tags.get("content_tag") or ("value" if "value" in turn else "content")
    names: dict[str, Role | None] = dict(_ROLES)
    own: tuple[tuple[str, Role | None], ...] = (
        ("user_tag", "user"),
        ("assistant_tag", "assistant"),
        ("system_tag", "system"),
        ("observation_tag", None),
        ("function_tag", None),
    )
    names |= {spec.tags[tag]: role for tag, role in own if tag in spec.tags}
    said = turn.get(role_key)
    if not isinstance(said, str) or said not in names:
        raise _Malformed(f"turn {number}: {role_key!r} is {said!r}, not one of {', '.join(sorted(names))}")
    role = names[said]
    if role is None or turn.get("tool_calls") or turn.get("function_call"):
        raise _ToolSpeaks
    content = turn.get(content_key)
    if not isinstance(content, str):
        raise _Malformed(f"turn {number}: {content_key!r} must be a string, is {content!r:.60}")
    return Message(role=role, content=content)


def _system(values: Mapping[str, Any], spec: SetSpec) -> list[Message]:
    text = _optional(values, spec.columns.get("system"))
    return [Message(role="system", content=text)] if text else []


def _string(values: Mapping[str, Any], column: str | None) -> str:
    if column not in values:
        raise _Malformed(f"column {column!r} is missing; the row has {_listed(values)}")
    return _optional(values, column, nothing=False)


def _optional(values: Mapping[str, Any], column: str | None, *, nothing: bool = True) -> str:
    value = values.get(column) if column else None
    if value is None and nothing:
        return ""
    if not isinstance(value, str):
        raise _Malformed(f"column {column!r} must be a string, is {value!r:.60}")
    return value


def _filled(text: str, spec: SetSpec) -> str:
    """`text`, found to be text, with its placeholders replaced.

    A set without `placeholders` that has some is refused: the model would learn to call itself "{{name}}".
    """
    if half := HALF_CHARACTER.search(text):
        raise _Malformed(f"holds half a character (an unpaired surrogate, {half.group()!r})")
    if spec.placeholders is None:
        if found := PLACEHOLDER.search(text):
            raise _Malformed(
                f"holds {found.group()}; say what stands for it: --placeholder {found.group(1)}=..., or "
                '"placeholders" in dataset_info.json ({} leaves it as it is)'
            )
        return text
    given = spec.placeholders
    return PLACEHOLDER.sub(lambda found: given.get(found.group(1), found.group()), text)


def _listed(columns: Any) -> str:
    return ", ".join(sorted(columns)) or "none"
