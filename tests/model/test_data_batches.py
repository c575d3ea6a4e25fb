"""Packing, shared prefixes and the loader: laws by brute force, logits against each sample alone."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.config import GPTConfig
from model.data.batches import IGNORED, Batch, Loader, collate
from model.data.packing import LONGEST_PACK, pack, split_tree
from model.data.samples import Branch, Sample, share
from model.errors import DataError
from model.gpt import GPT
from model.train.losses import next_token

VOCABULARY = 97


def branch(ids: list[int], supervised: list[int]) -> Branch:
    mask = np.zeros(len(ids), np.bool_)
    mask[supervised] = True
    return Branch(np.array(ids, np.int32), mask)


def plain(length: int, seed: int = 0, supervised: int = 1) -> Sample:
    ids = np.random.default_rng([seed, length]).integers(0, VOCABULARY, length).tolist()
    return Sample((branch(ids, list(range(length - supervised, length))),))


def tree(prefix: int, branches: list[int], seed: int = 0) -> Sample:
    draw = np.random.default_rng([seed, prefix, *branches])
    return Sample(
        tuple(
            branch(draw.integers(0, VOCABULARY, n).tolist(), list(range(n // 2 or 1, n))) for n in branches
        ),
        draw.integers(0, VOCABULARY, prefix).astype(np.int32),
    )


def tiny(**axes: object) -> GPT:
    config = {
        "vocab_size": VOCABULARY,
        "context_length": 64,
        "n_layers": 2,
        "n_heads": 4,
        "n_kv_heads": 2,
        "d_model": 32,
        "head_dim": 8,
        "d_mlp": 48,
        "positions": "rotary",
        "norm": "rmsnorm",
        "mlp": "swiglu",
        "norm_eps": 1e-5,
    }
    model = GPT(GPTConfig(**(config | axes)))  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    model.initialise(generator)
    with torch.no_grad():  # larger than at the start of training, so that a leak shows
        for parameter in model.parameters():
            parameter.mul_(3.0)
    return model.eval()


MODELS = {
    "rotary": {},
    "learned": {"positions": "learned", "norm": "layernorm", "mlp": "gelu_tanh", "attention_bias": True},
}


@pytest.mark.parametrize("axes", MODELS.values(), ids=MODELS)
@torch.no_grad()
def test_packed_and_branched_conversations_equal_each_alone(axes: dict[str, object]) -> None:
    model = tiny(**axes)
    rows = [
        (plain(9), tree(7, [5, 1, 8, 5]), plain(4)),
        (tree(12, [3, 3]), plain(6, seed=5)),
        (plain(2),),  # a row that is mostly padding
    ]
    batch = collate(rows).to("cpu")
    assert batch.mask is not None
    together = model.logits(model(batch.ids, positions=batch.positions, mask=batch.mask))
    assert torch.isfinite(together).all()
    conversations = 0
    for r, row in enumerate(rows):
        at = 0
        for sample in row:
            start, at = at, at + len(sample.prefix)
            for b in sample.branches:
                ids = torch.tensor([[*sample.prefix.tolist(), *b.ids.tolist()]])
                alone = model.logits(model(ids))[0]
                depth = len(sample.prefix)
                torch.testing.assert_close(
                    together[r, start : start + depth], alone[:depth], rtol=1e-5, atol=1e-5
                )
                here = slice(at, at + len(b.ids))
                torch.testing.assert_close(together[r, here], alone[depth:], rtol=1e-5, atol=1e-5)
                expected = [int(i) if m else IGNORED for i, m in zip(b.ids[1:], b.mask[1:], strict=True)]
                assert batch.targets[r, here].tolist() == [*expected, IGNORED]
                assert batch.ids[r, here].tolist() == b.ids.tolist()
                at = here.stop
                conversations += 1
            assert (batch.targets[r, start : start + len(sample.prefix)] == IGNORED).all()
    assert conversations == batch.samples == 10
    assert batch.lengths == [39, 24, 2]


def test_a_shared_pack_trains_as_its_conversations_do_one_by_one() -> None:
    model = tiny()
    row = (tree(9, [6, 4, 7]), plain(8, supervised=4), tree(3, [5]))
    whole = [
        branch([*t.prefix.tolist(), *b.ids.tolist()], (np.flatnonzero(b.mask) + len(t.prefix)).tolist())
        for t in row
        for b in t.branches
    ]

    def gradients(batches: list[Batch]) -> tuple[int, float, list[torch.Tensor]]:
        model.zero_grad()
        total, count = torch.zeros(()), 0
        for batch in batches:
            loss, terms = next_token(model, batch)
            loss.backward()
            total, count = total + loss.detach(), count + terms
        return count, float(total), [p.grad.clone() for p in model.parameters() if p.grad is not None]

    count, total, together = gradients([collate([row])])
    expected_count, expected, apart = gradients([collate([(Sample((b,)),)]) for b in whole])
    assert count == expected_count == sum(int(b.mask.sum()) for b in whole)
    assert total == pytest.approx(expected, rel=1e-5)
    for left, right in zip(together, apart, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_unpacked_rows_need_no_mask_and_equal_each_alone() -> None:
    model = tiny()
    rows = [(plain(9),), (plain(5),)]
    batch = collate(rows)
    assert batch.mask is None
    together = model.logits(model(batch.ids, positions=batch.positions))
    for r, (sample,) in enumerate(rows):
        ids = torch.from_numpy(sample.branches[0].ids.astype(np.int64))[None]
        torch.testing.assert_close(
            together[r, : ids.shape[1]], model.logits(model(ids))[0], rtol=1e-5, atol=1e-5
        )


trees = st.builds(
    tree, st.integers(0, 12), st.lists(st.integers(1, 20), min_size=1, max_size=9), st.integers(0, 3)
)


@given(st.lists(trees, min_size=1, max_size=20), st.integers(32, 60))
def test_a_pack_holds_every_branch_once_within_its_length(samples: list[Sample], pack_len: int) -> None:
    packs = pack(samples, pack_len)
    assert all(0 < sum(t.tokens for t in row) <= pack_len for row in packs)

    def content(tree_list: list[Sample]) -> Counter[tuple[bytes, bytes, bytes]]:
        return Counter(
            (t.prefix.tobytes(), b.ids.tobytes(), b.mask.tobytes()) for t in tree_list for b in t.branches
        )

    assert content([t for row in packs for t in row]) == content(samples)
    # Best fit: two packs are never both at most half full, unless there is one only.
    assert sum(2 * sum(t.tokens for t in row) <= pack_len for row in packs) <= 1


@given(trees, st.integers(32, 40))
def test_a_split_tree_keeps_order_and_never_stalls(sample: Sample, pack_len: int) -> None:
    parts = split_tree(sample, pack_len)
    assert [b for part in parts for b in part.branches] == list(sample.branches)
    assert all(part.tokens <= pack_len for part in parts)
    for left, right in itertools.pairwise(parts):  # greedy: a part ends because the next did not fit
        assert left.tokens + len(right.branches[0].ids) > pack_len


def test_what_fits_no_row_is_refused_before_packing() -> None:
    with pytest.raises(DataError, match="40 tokens does not fit rows of 39"):
        pack([plain(40)], 39)
    with pytest.raises(DataError, match="at most"):
        pack([plain(4)], LONGEST_PACK + 1)
    with pytest.raises(DataError, match="no sample is left"):
        Loader([], batch_size=1)


ids_and_reply = st.tuples(st.lists(st.integers(0, 3), min_size=2, max_size=8), st.integers(1, 7))


@given(st.lists(ids_and_reply, min_size=1, max_size=5))
def test_sharing_changes_no_conversation_and_supervises_no_prefix(raw: list[tuple[list[int], int]]) -> None:
    whole = [branch(ids, list(range(min(reply, len(ids) - 1), len(ids)))) for ids, reply in raw]
    sample = share(whole)
    for original, shared in zip(whole, sample.branches, strict=True):
        assert [*sample.prefix, *shared.ids] == original.ids.tolist()
        assert [*[False] * len(sample.prefix), *shared.mask] == original.mask.tolist()
    assert sample.supervised == sum(b.mask.sum() for b in whole)
    if len(whole) > 1:  # the prefix is as long as it may be: one more token would differ or precede a reply
        n = len(sample.prefix)
        alike = len({b.ids[n] for b in whole}) == 1
        assert not alike or any(b.mask[n + 1 : n + 2].any() for b in whole)


def flat(batch: Batch) -> tuple[object, ...]:
    rows = [ids[:n] for ids, n in zip(batch.ids.tolist(), batch.lengths, strict=True)]
    return batch.ids.tolist(), batch.targets.tolist(), batch.positions.tolist(), batch.lengths, rows


@pytest.mark.parametrize("packing", [False, True])
def test_an_epoch_visits_each_row_once_and_resumes_anywhere(packing: bool) -> None:
    samples = [plain(3 + i % 23, seed=i) for i in range(53)] + [tree(6, [4, 5], seed=i) for i in range(8)]
    make = lambda seed=3: Loader(samples, batch_size=4, seed=seed, packing=packing, pack_len=40)  # noqa: E731
    loader = make()
    epochs = [[flat(b) for b in loader.batches(e)] for e in range(2)]
    assert [len(e) for e in epochs] == [loader.steps(0), loader.steps(1)] == [len(loader)] * 2
    assert epochs[0] != epochs[1]
    for k in range(len(loader) + 1):
        assert [flat(b) for b in make().batches(1, k)] == epochs[1][k:]
    rows = [Counter(str(ids) for batch in epoch for ids in batch[4]) for epoch in epochs]
    assert rows[0] == rows[1] and sum(rows[0].values()) == len(loader.rows)
    assert sum(b.samples for b in loader.batches(0)) == 53 + 16
    assert make(4).fingerprint() != loader.fingerprint() == make().fingerprint()


def test_the_order_is_a_promise_to_saved_runs() -> None:
    """A run saved by an older version resumes in the same order: these lists may never change."""
    loader = Loader([plain(3 + i) for i in range(10)], batch_size=3, seed=3)
    assert [batch.lengths for batch in loader.batches(0)] == [[3, 4, 5], [12], [9, 10, 11], [6, 7, 8]]
    assert [batch.lengths for batch in loader.batches(1)] == [[6, 7, 8], [12], [9, 10, 11], [3, 4, 5]]


def test_rows_of_a_micro_batch_are_alike_in_length() -> None:
    draw = np.random.default_rng(0)
    samples = [plain(int(n), seed=i) for i, n in enumerate(draw.integers(4, 400, 600))]
    bucketed = Loader(samples, batch_size=8, seed=0).statistics()
    packed = Loader(samples, batch_size=2, seed=0, packing=True, pack_len=1024).statistics()
    assert bucketed.padding_share < 0.06  # about 0.4 without bucketing
    assert packed.padding_share < 0.02
    assert bucketed.tokens == packed.tokens == sum(s.tokens for s in samples)
    assert bucketed.supervised == packed.supervised == 600
    measured = list(Loader(samples, batch_size=8, seed=0).batches(0))
    slots = sum(b.ids.numel() for b in measured)
    assert bucketed.padding_share == pytest.approx(1 - sum(b.tokens for b in measured) / slots)
    assert sum(b.supervised for b in measured) == bucketed.supervised


def test_validation_order_is_the_same_in_every_epoch() -> None:
    loader = Loader([plain(3 + i % 5, seed=i) for i in range(17)], batch_size=4, shuffle=False)
    first, second = ([flat(b) for b in loader.batches(e)] for e in (0, 7))
    assert first == second
