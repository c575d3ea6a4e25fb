"""Files to conversations: the forms, the registry, and what is said of files that are wrong."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.data.forms import Loaded, load
from model.data.registry import find
from model.data.sets import DataConfig, gather, read_sets
from model.data.split import split
from model.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("LOREBASE_DATA", ROOT.parent / "shared" / "data"))

ALPACA = {"instruction": "Add.", "input": "1 2", "output": "3"}


def written(folder: Path, rows: Any, entry: dict[str, Any] | None = None, name: str = "rows.json") -> str:
    """A set named "rows" in the folder's registry, or the file's path where there is no entry."""
    (folder / name).write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    if entry is None:
        return str(folder / name)
    (folder / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": name} | entry}))
    return "rows"


def loaded(folder: Path, rows: Any, entry: dict[str, Any] | None = None) -> Loaded:
    return load(*find([written(folder, rows, entry)], folder))


def turns(result: Loaded) -> list[list[tuple[str, str]]]:
    return [[(t["role"], t["content"]) for t in c] for e in result.examples for c in e.conversations]


def test_alpaca_with_history_and_system(tmp_path: Path) -> None:
    rows = [
        ALPACA,
        {"instruction": "And 3?", "output": "6", "history": [["Add 1 2", "3"]], "system": "Be brief."},
        {"instruction": "Hi", "input": None, "output": "Hello", "tools": "[{}]"},
    ]
    result = loaded(tmp_path, rows)
    assert turns(result) == [
        [("user", "Add.\n1 2"), ("assistant", "3")],
        [
            ("system", "Be brief."),
            ("user", "Add 1 2"),
            ("assistant", "3"),
            ("user", "And 3?"),
            ("assistant", "6"),
        ],
        [("user", "Hi"), ("assistant", "Hello")],
    ]
    assert (result.rows, result.tools_ignored, result.problems) == (3, 1, [])


SHAREGPT = [
    {"from": "human", "value": "Hi"},
    {"from": "gpt", "value": "Hello"},
]
OPENAI = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
OWN = [{"who": "me", "says": "Hi"}, {"who": "it", "says": "Hello"}]


@pytest.mark.parametrize(
    ("row", "entry"),
    [
        ({"conversations": SHAREGPT}, None),
        ({"messages": OPENAI}, None),
        ({"conversations": OPENAI}, {"formatting": "sharegpt"}),
        ({"messages": OPENAI}, {"formatting": "openai", "columns": {"messages": "messages"}}),
        (
            {"talk": OWN},
            {
                "formatting": "sharegpt",
                "columns": {"messages": "talk"},
                "tags": {"role_tag": "who", "content_tag": "says", "user_tag": "me", "assistant_tag": "it"},
            },
        ),
        ({"q": "Hi", "a": "Hello", "input": "x"}, {"columns": {"prompt": "q", "response": "a"}}),
    ],
    ids=["sharegpt", "messages", "roles", "openai", "own-tags", "own-columns"],
)
def test_other_spellings_give_the_same_conversation(
    row: dict[str, Any], entry: dict[str, Any] | None, tmp_path: Path
) -> None:
    result = loaded(tmp_path, [row], entry)
    assert turns(result) == [[("user", "Hi"), ("assistant", "Hello")]]


def test_tools_are_counted_and_left_out(tmp_path: Path) -> None:
    speaking = [SHAREGPT[0], {"from": "function_call", "value": "{}"}, {"from": "observation", "value": "1"}]
    rows = [
        {"conversations": SHAREGPT, "tools": "[]", "system": "S"},
        {"conversations": [*speaking, SHAREGPT[1]], "tools": "[]"},
        {"conversations": [{"from": "system", "value": "T"}, *SHAREGPT], "system": "S"},
    ]
    result = loaded(tmp_path, rows)
    assert (result.tools_ignored, result.tool_rows, len(result.examples)) == (2, 1, 2)
    assert [conversation[0] for conversation in turns(result)] == [("system", "S"), ("system", "T")]


def test_a_passage_goes_before_each_of_its_questions(tmp_path: Path) -> None:
    rows = [
        {
            "title": "Paris",
            "passage": "Paris is a city.",
            "questions": [
                {"question": "What is Paris?", "answer": "a city"},
                {"question": "Who lives there?", "answer": "The passage does not say."},
            ],
        }
    ]
    plain = loaded(tmp_path, rows)
    assert turns(plain) == [
        [("user", "Paris is a city.\n\nWhat is Paris?"), ("assistant", "a city")],
        [("user", "Paris is a city.\n\nWho lives there?"), ("assistant", "The passage does not say.")],
    ]
    assert len(plain.examples) == 1 and plain.examples[0].group == "Paris is a city."
    entry = {"formatting": "reading", "prompt": "{passage}\n\nQuestion: {question}", "group": "title"}
    own = loaded(tmp_path, rows, entry)
    assert turns(own)[1][0] == ("user", "Paris is a city.\n\nQuestion: Who lives there?")
    assert own.examples[0].group == "Paris"


def test_jsonl_gzip_and_marks_of_other_systems(tmp_path: Path) -> None:
    lines = "\r\n".join(json.dumps(ALPACA | {"output": f"{i}\u2028"}, ensure_ascii=False) for i in range(3))
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + lines.encode() + b"\r\n\r\n")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    for name in ("a.jsonl", "b.jsonl.gz"):
        result = load(*find([str(tmp_path / name)], tmp_path))
        assert [e.row for e in result.examples] == [1, 2, 3]
        assert turns(result)[2][-1] == ("assistant", "2\u2028")


def test_placeholders_are_filled_or_refused(tmp_path: Path) -> None:
    rows = [{"instruction": "Who made {{name}}?", "output": "{{ author }} did; {{other}} stays."}]
    filled = loaded(tmp_path, rows, {"placeholders": {"name": "Lore", "author": "us"}})
    assert turns(filled) == [[("user", "Who made Lore?"), ("assistant", "us did; {{other}} stays.")]]
    kept = loaded(tmp_path, rows, {"placeholders": {}})
    assert turns(kept)[0][0][1] == "Who made {{name}}?"
    refused = loaded(tmp_path, rows)
    assert [(p.row, "{{name}}" in p.what, "placeholders" in p.what) for p in refused.problems] == [
        (1, True, True)
    ]
    given = DataConfig(dataset=(str(tmp_path / "rows.json"),), placeholders={"name": "A", "author": "B"})
    assert read_sets(given.dataset, given)[0].problems == []


BAD_ROWS = [
    ({"instruction": "x"}, "column 'output' is missing; the row has instruction"),
    ({"instruction": "x", "output": 3}, "column 'output' must be a string, is 3"),
    ({"instruction": " ", "output": "x"}, "the instruction is empty"),
    ({"instruction": "x", "output": "y", "history": [["a"]]}, "'history', pair 1"),
    ({"instruction": "x", "output": "y", "history": 5}, "'history' must be a list of pairs, is 5"),
    ("text", "is a string, not an object"),
]
BAD_TALKS = [
    ([SHAREGPT[1]], "turn 1 is the assistant's where the user's is due"),
    (
        [{"from": "system", "value": ""}, SHAREGPT[0], SHAREGPT[0]],
        "turn 3 is the user's where the assistant's",
    ),
    ([{"from": "bing", "value": ""}], "turn 1: 'from' is 'bing', not one of"),
    ([{"from": "human", "value": ["x"]}], "turn 1: 'value' must be a string"),
    ([{"from": "system", "value": "x"}], "holds only a system turn"),
    ([], "must be a list of turns"),
    (["Hi"], "turn 1 must be an object"),
]


@pytest.mark.parametrize(
    ("good", "bad", "what"),
    [(ALPACA, bad, what) for bad, what in BAD_ROWS]
    + [({"conversations": SHAREGPT}, {"conversations": talk}, what) for talk, what in BAD_TALKS],
    ids=str,
)
def test_a_malformed_row_is_named_and_the_others_are_read(
    good: Any, bad: Any, what: str, tmp_path: Path
) -> None:
    result = loaded(tmp_path, [good, bad, good])
    assert [e.row for e in result.examples] == [1, 3]
    (problem,) = result.problems
    assert str(problem).startswith(f"{tmp_path / 'rows.json'}, row 2: ") and what in problem.what
    strict = DataConfig(dataset=(str(tmp_path / "rows.json"),))
    with pytest.raises(DataError, match=r"1 of 3 rows of rows are malformed:\n  .*row 2: "):
        gather(strict.dataset, strict, [])
    said: list[str] = []
    lenient = DataConfig(dataset=strict.dataset, skip_malformed=True)
    assert len(gather(lenient.dataset, lenient, said)) == 2 and "1 malformed left out" in said[0]


def test_broken_rows_behind_the_last_good_one_are_told(tmp_path: Path) -> None:
    file = tmp_path / "set.jsonl"
    row = '{"instruction": "q", "output": "a"}'
    file.write_text("\n".join([row, row, row[:9], row[:9]]))
    spec = find([str(file)], tmp_path)[0]
    assert [len(load(spec, most).problems) for most in (None, 100, 3, 2)] == [2, 2, 2, 0]


def test_a_call_of_a_tool_is_a_tools_row(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    rows = [
        {
            "messages": [
                {"role": "user", "content": "Weather?"},
                call,
                {"role": "assistant", "content": "Fine."},
            ]
        }
    ]
    file = tmp_path / "set.json"
    file.write_text(json.dumps([*rows, {"messages": rows[0]["messages"][::2]}]))
    made = load(find([str(file)], tmp_path)[0])
    assert (made.tool_rows, len(made.examples), made.problems) == (1, 1, [])


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "is empty"),
        (b"[]", "holds no rows"),
        (b'[{"a": 1}', "is not valid JSON"),
        (b'{"data": [\n1]}\n', "is one JSON object; a training set is a list of rows"),
        (b"plain words\n", "neither a JSON list nor JSONL"),
        (b"\x1f\x8bgarbage", "cannot be read"),
        ('[{"instruction": "é"}]'.encode("latin-1"), "is not UTF-8"),
        (b'[{"question": "x", "reply": "y"}]', "columns question, reply, which is no form known here"),
        (b'[{"conversations": [], "chosen": {}, "rejected": {}}]', "those of a preference set"),
        (b'[{"messages": [], "label": true}]', "those of a preference set"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(data: bytes, what: str, tmp_path: Path) -> None:
    file = tmp_path / "set.json"
    file.write_bytes(data)
    with pytest.raises(DataError, match=what) as caught:
        load(*find([str(file)], tmp_path))
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ({"columns": {"response": "reply"}}, "no column 'reply'.*it has input, instruction, output"),
        ({"columns": {"prompt": "instruction", "query": "more"}}, "no column 'more'"),
        ({"group": "title"}, "no column 'title'"),
        ({"columns": {"promt": "instruction"}}, "alpaca has no 'promt'"),
        ({"tags": {"role": "x"}}, "'role' is not one of"),
        ({"formatting": "chatml"}, "formatting 'chatml' is not one of alpaca"),
        ({"ranking": True}, "preference set"),
        ({"columns": {"images": "images"}}, "only text"),
        ({"colums": {}}, "unknown key 'colums'"),
        ({"num_samples": 0}, "num_samples"),
        ({"prompt": "{question}"}, "prompt must begin with"),
        ({"file_name": "absent.json"}, "absent.json does not exist"),
        ({"file_name": 5}, "file_name must be a string"),
        ({"group": ["x"]}, "group must be a string"),
    ],
)
def test_a_registry_entry_that_cannot_be_used_says_why(
    entry: dict[str, Any], what: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=what):
        loaded(tmp_path, [ALPACA], entry)


def test_unknown_names_are_answered_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset_info.json does not exist"):
        find(["rows"], tmp_path)
    written(tmp_path, [ALPACA], {})
    with pytest.raises(DataError, match="no set 'row'; it has: rows"):
        find(["row"], tmp_path)
    with pytest.raises(DataError, match="hf_hub_url is not followed; download"):
        (tmp_path / "dataset_info.json").write_text('{"far": {"hf_hub_url": "a/b"}}')
        find(["far"], tmp_path)


words = st.sampled_from(["Hi", "", " ", "{{name}}", "\ud800", "中", "human", "gpt", "system", "tool", "user"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["from", "value", "role", "content", "question", "answer"]), inner)
    ),
    max_leaves=8,
)
talk = st.lists(st.fixed_dictionaries({"from": words, "value": words}), max_size=4)
columns = st.sampled_from(
    ["instruction", "input", "output", "history", "system", "tools", "passage", "questions", "label"]
)
anything = st.dictionaries(columns, values | words, max_size=6) | st.fixed_dictionaries(
    {"conversations": talk}
)


@given(st.lists(anything | values, min_size=1, max_size=5))
def test_whatever_a_file_holds_every_row_is_accounted_for(rows: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        file.write_text(json.dumps(rows))
        try:
            result = load(*find([str(file)], Path(folder)))
            split(result.examples, 0)
        except DataError as error:
            assert str(file) in str(error) or "val_size" in str(error)
            return
    assert result.rows == len(rows)
    counted = [e.row for e in result.examples] + [p.row for p in result.problems]
    assert len(counted) == len(set(counted)) == len(rows) - result.tool_rows
    for conversation in turns(result):
        roles = [role for role, _ in conversation if role != "system"]
        assert roles[:2] == ["user", "assistant"][: len(roles)] and len(conversation) - len(roles) <= 1
        "".join(text for _, text in conversation).encode()  # whole characters only


def test_json_nested_without_end_is_refused(tmp_path: Path) -> None:
    for name, text in (("a.json", "[" * 200_000), ("b.jsonl", json.dumps(ALPACA) + "\n" + '{"a":' * 200_000)):
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match="not valid JSON"):
        load(*find([str(tmp_path / "a.json")], tmp_path))
    result = load(*find([str(tmp_path / "b.jsonl")], tmp_path))
    assert len(result.examples) == 1 and "not valid JSON" in result.problems[0].what


def test_max_samples_takes_the_first_rows(tmp_path: Path) -> None:
    spec = find([written(tmp_path, [ALPACA] * 5, {"num_samples": 4})], tmp_path)[0]
    assert load(spec).rows == 4
    assert load(spec, max_samples=2).rows == 2


SFT = {
    "alpaca_en_demo": 906,
    "alpaca_zh_demo": 898,
    "identity": 91,
    "llms_from_scratch_instructions": 966,
    "self_instruct_seeds": 175,
    "llms_from_scratch_preference": 966,
}


@pytest.mark.parametrize(("name", "rows"), SFT.items())
def test_public_sets_load_whole(name: str, rows: int) -> None:
    file = DATA / "sft" / f"{name}.json.gz"
    if not file.is_file():
        pytest.skip(f"{file} is not there; set LOREBASE_DATA")
    config = DataConfig(dataset=(str(file),), placeholders={"name": "Lore", "author": "us"})
    result = read_sets(config.dataset, config)[0]
    assert (result.rows, len(result.examples), result.problems) == (rows, rows, [])
    assert "{{name}}" not in str(result.examples)


def test_the_identity_set_of_the_examples(tmp_path: Path) -> None:
    config = DataConfig(dataset=("identity",), dataset_dir=ROOT / "examples")
    result = read_sets(config.dataset, config)[0]
    assert (result.rows, len(result.examples), result.problems) == (90, 90, [])
    replies = [conversation[-1][1] for conversation in turns(result)]
    assert sum("Lore" in reply for reply in replies) >= 85
    chinese = [any("\u4e00" <= sign <= "\u9fff" for sign in reply) for reply in replies]
    assert 30 <= sum(chinese) <= 60
    questions = [conversation[-2][1] for conversation in turns(result)]
    assert len(set(questions)) == 90
