"""Conversations to samples: what is supervised, what is cut, what is shared, and who validates."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from model.chat import END, ChatTemplate, Message
from model.data.batches import IGNORED
from model.data.forms import Example
from model.data.samples import Sample, encode
from model.data.sets import DataConfig, gather, prepare
from model.data.split import normal, split
from model.errors import DataError
from model.layout import read_config
from model.template_export import jinja
from model.tokenizer import Tokenizer
from tests.model.chatml import pair

TEMPLATE = ChatTemplate("You are Lore.")
SYSTEM: Message = {"role": "system", "content": "Answer in one word."}
PASSAGE = "The capital of France is Paris.\n\nThe founders made Lore in 2026.  "


def asked(*turns: str) -> list[Message]:
    return [{"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(turns)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return pair(tmp_path_factory.mktemp("tokenizer"))[0]


def taught(sample: Sample, tokenizer: Tokenizer) -> list[str]:
    """What each branch supervises, control tokens spelled out."""
    return [tokenizer.decode(b.ids[b.mask].tolist(), special=True) for b in sample.branches]


def test_every_reply_and_its_end_are_taught_and_nothing_else(tokenizer: Tokenizer) -> None:
    talk = [SYSTEM, *asked("Who are you?", "Lore, 12.", "你是谁？", " 我是 Lore。\n", "Bye")]
    (sample,), counts = encode([[talk]], TEMPLATE, tokenizer, cutoff_len=512)
    whole = TEMPLATE.encode(talk[:-1], tokenizer, reply=False)  # the last question teaches nothing
    (branch,) = sample.branches
    end = len(whole.ids) - len(tokenizer.encode("\n"))
    assert branch.ids.tolist() == whole.ids[:end] and branch.mask.tolist() == whole.mask[:end]
    assert taught(sample, tokenizer) == [f"Lore, 12.{END} 我是 Lore。\n{END}"]
    assert (counts.conversations, counts.kept, counts.supervised) == (1, 1, sample.supervised)
    assert counts.tokens == len(branch.ids) == counts.unshared_tokens


def test_a_blank_reply_among_others_teaches_no_early_end(tokenizer: Tokenizer) -> None:
    talk = asked("Hi", "Hello", "The weather?", " ", "And now?", "Fine.")
    (sample,), _ = encode([[talk]], TEMPLATE, tokenizer, cutoff_len=512)
    assert taught(sample, tokenizer) == [f"Hello{END}Fine.{END}"]
    (sample,), _ = encode([[talk]], TEMPLATE, tokenizer, cutoff_len=512, teach="last")
    assert taught(sample, tokenizer) == [f"Fine.{END}"]
    samples, counts = encode([[talk[:4]]], TEMPLATE, tokenizer, cutoff_len=512, teach="last")
    assert samples == [] and counts.dropped_unsupervised == 1


def test_a_cut_reply_loses_its_end_and_is_counted(tokenizer: Tokenizer) -> None:
    talk = asked("Who are you?", "I am Lore.", "And who made you?", "The founders.")
    (full,), _ = encode([[talk]], TEMPLATE, tokenizer, cutoff_len=512)
    ids, mask = full.branches[0].ids, full.branches[0].mask
    end, first = tokenizer.special[END], int(np.flatnonzero(mask)[0])
    for cutoff in range(2, len(ids) + 2):
        samples, counts = encode([[talk]], TEMPLATE, tokenizer, cutoff_len=cutoff)
        dropped, none = encode([[talk]], TEMPLATE, tokenizer, cutoff_len=cutoff, too_long="drop")
        fits = cutoff >= len(ids)
        assert len(dropped) == fits and none.dropped_too_long == (not fits)
        if cutoff <= first:
            assert not samples and counts.dropped_too_long == counts.dropped() == 1
            continue
        (branch,) = samples[0].branches
        assert branch.ids.tolist() == ids[:cutoff].tolist()
        assert branch.mask.tolist() == mask[:cutoff].tolist()
        assert (counts.truncated, counts.kept) == (not fits, 1)
        ends = [int(i) for i in np.flatnonzero(branch.mask) if branch.ids[i] == end]
        assert len(ends) == sum(mask[:cutoff] & (ids[:cutoff] == end)) and (len(ends) == 2) == fits
    with pytest.raises(DataError, match="at least 2"):
        encode([[talk]], TEMPLATE, tokenizer, cutoff_len=1)


def test_what_teaches_nothing_is_dropped_for_its_reason(tokenizer: Tokenizer) -> None:
    groups = [[asked("Hi")], [asked("Hi", " \n")], [asked("Hi", "", "Well?", "Lore")], [[SYSTEM]]]
    samples, counts = encode(groups, TEMPLATE, tokenizer, cutoff_len=512)
    assert len(samples) == 1
    assert (counts.dropped_empty, counts.dropped_unsupervised, counts.kept) == (1, 2, 1)
    assert counts.dropped() + counts.kept == counts.conversations == 4
    assert str(counts).startswith("1 of 4 conversations, 1 dropped with an empty reply, 2 dropped without")


def test_questions_on_one_passage_share_it(tokenizer: Tokenizer) -> None:
    questions = ["Who made Lore?", "What is the capital?", "What is the capital?", "When?"]
    talks = [[SYSTEM, *asked(f"{PASSAGE}\n\n{q}", a)] for q, a in zip(questions, "abcd", strict=True)]
    talks.append([SYSTEM, *asked(f"{PASSAGE}\n\nWhy?", "")])  # dropped, and no obstacle to sharing
    (sample,), counts = encode([talks], TEMPLATE, tokenizer, cutoff_len=512)
    assert (counts.kept, counts.dropped_empty) == (4, 1)
    for branch, talk in zip(sample.branches, talks, strict=False):
        alone = TEMPLATE.encode(talk, tokenizer, reply=False)
        together = [*sample.prefix, *branch.ids]
        assert together == alone.ids[: len(together)]
        assert [*[False] * len(sample.prefix), *branch.mask] == alone.mask[: len(together)]
        assert not branch.mask[0]
    assert taught(sample, tokenizer) == [f"{answer}{END}" for answer in "abcd"]
    shared = tokenizer.decode(sample.prefix.tolist(), special=True)
    assert PASSAGE in shared and "Wh" not in shared.split(PASSAGE)[1].strip()[1:]
    assert counts.tokens == sample.tokens
    assert counts.unshared_tokens == sample.tokens + 3 * len(sample.prefix)


def test_equal_questions_with_unequal_answers_keep_the_token_that_predicts_them(tokenizer: Tokenizer) -> None:
    (sample,), _ = encode(
        [[asked("Name?", "Lore"), asked("Name?", "Rain")]], TEMPLATE, tokenizer, cutoff_len=99
    )
    newline = tokenizer.encode("\n")
    assert [branch.ids[:1].tolist() for branch in sample.branches] == [newline, newline]
    assert [branch.mask[:2].tolist() for branch in sample.branches] == [[False, True]] * 2


@pytest.mark.weights
def test_real_conversations_are_cut_into_the_ids_that_transformers_gives(
    weights_of: Callable[[str], Path],
) -> None:
    folder = weights_of("smollm2-135m-instruct")
    data = Path(os.environ.get("LOREBASE_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
    if not (data / "sft").is_dir():
        pytest.skip(f"{data / 'sft'} is not there; set LOREBASE_DATA")
    ours = Tokenizer.from_file(folder / "tokenizer.json")
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    source = read_config(folder)[1]["chat_template"]
    template = ChatTemplate.recognise(source)
    sets = tuple(str(data / "sft" / f"alpaca_{language}_demo.json.gz") for language in ("en", "zh"))
    config = DataConfig(dataset=sets, max_samples=60)
    for item in gather(config.dataset, config, []):
        (talk,) = item.conversations
        for chat_template in (source, jinja(template)):
            expected = theirs.apply_chat_template(list(talk), chat_template=chat_template, return_dict=True)[
                "input_ids"
            ]
            assert template.encode(talk, ours, reply=False).ids == expected
        ((sample,), _) = encode([[talk]], template, ours, cutoff_len=4096)
        assert taught(sample, ours) == [talk[-1]["content"] + END]


# -- the split ----------------------------------------------------------------------------------------------


def example(prompt: str, row: int, group: str | None = None) -> Example:
    return Example((tuple(asked(prompt, f"reply {row}")),), Path("rows.json"), row, group)


rows = st.lists(
    st.tuples(st.sampled_from(["a", "A ", "b", "c", "d", "e", "f", "g", "h", "i"]), st.sampled_from("vwxyz")),
    min_size=4,
    max_size=30,
)


def families(examples: Sequence[Example]) -> tuple[set[str], set[str]]:
    prompts = {normal(e.conversations[0][0]["content"]) for e in examples}
    return prompts, {e.group for e in examples if e.group}


@given(rows, st.sampled_from([0.1, 0.3, 0.5, 1, 3]), st.booleans(), st.randoms())
def test_a_split_leaks_nothing_and_depends_on_content_alone(
    raw: list[tuple[str, str]], val_size: float, grouped: bool, random: object
) -> None:
    examples = [example(p, i, g if grouped and i % 2 else None) for i, (p, g) in enumerate(raw)]
    quota = max(1, round(val_size * len(examples))) if val_size < 1 else int(val_size)
    try:
        train, held = split(examples, val_size)
    except DataError:
        return  # every family is larger than the quota; the next test sees to plain cases
    assert sorted(e.row for e in [*train, *held]) == list(range(len(raw)))
    assert 0 < len(held) <= quota
    for left, right in zip(families(train), families(held), strict=True):
        assert not left & right
    shuffled = list(examples)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert {e.row for e in split(shuffled, val_size)[1]} == {e.row for e in held}


def test_a_split_of_unrelated_rows_is_exact() -> None:
    examples = [example(f"question {i}", i) for i in range(50)]
    assert [len(split(examples, size)[1]) for size in (0, 0.1, 0.5, 7, 0.001)] == [0, 5, 25, 7, 1]
    for wrong in (-1, 50, 2.5):
        with pytest.raises(DataError, match="val_size must be"):
            split(examples, wrong)
    with pytest.raises(DataError, match="share prompts or groups"):
        split([example("same", i) for i in range(9)], 0.2)


# -- the whole way ------------------------------------------------------------------------------------------


def test_prepare_gives_loaders_and_says_what_became_of_the_rows(tokenizer: Tokenizer, tmp_path: Path) -> None:
    made = [{"instruction": f"Name {i}?", "output": f"Lore {i}"} for i in range(20)]
    made += [{"instruction": "Silent?", "output": ""}, {"instruction": "Long", "output": "a b " * 200}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, made)))
    config = DataConfig(
        dataset=(str(tmp_path / "rows.jsonl"),), val_size=4, cutoff_len=100, per_device_train_batch_size=3
    )
    ready = prepare(config, TEMPLATE, tokenizer)
    assert ready.validation is not None
    seen: list[str] = []
    for loader in (ready.train, ready.validation):
        for batch in loader.batches(0):
            targets = batch.targets[batch.targets != IGNORED]
            seen += tokenizer.decode(targets.tolist(), special=True).split(END)
    names = [text for text in seen if text.startswith("Lore")]
    assert sorted(names) == sorted(f"Lore {i}" for i in range(20))
    assert len(ready.validation.rows) in (3, 4)
    assert any("1 truncated" in line for line in ready.report)
    assert any("1 dropped with an empty reply" in line for line in ready.report)
    with pytest.raises(DataError, match=r"nothing is left of .*22 conversations.*data check"):
        prepare(DataConfig(dataset=config.dataset, cutoff_len=5), TEMPLATE, tokenizer)
    with pytest.raises(DataError, match="not both"):
        DataConfig(dataset=config.dataset, eval_dataset=config.dataset, val_size=0.1)
