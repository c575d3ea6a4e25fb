"""Several samples in one row, so that less of a batch is padding.

A pack is a list of samples that stand behind each other in a row of at most `pack_len` tokens; the mask that
keeps them apart is made in `model.data.batches`. A dense mask costs n^2, and so do the attention scores that
it hides: `LONGEST_PACK` bounds both. Trees that are too large for a row are split into several, each with its
own copy of the prefix. Packing always ends: whatever cannot fit is an error before it starts.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

from model.data.samples import Sample
from model.errors import DataError

#: Tokens; the mask of one such row takes 256 MB in float32.
LONGEST_PACK = 8192
#: Tokens of a row that holds several conversations, where nothing else is asked for.
DEFAULT_PACK = 1024

Pack = tuple[Sample, ...]


def split_tree(sample: Sample, pack_len: int) -> list[Sample]:
    """The sample in as few trees of at most `pack_len` tokens as its branches' order allows.

    Raises:
        DataError: one branch with its prefix is longer than that.
    """
    if sample.depth > pack_len:
        raise DataError(
            f"a sample of {sample.depth} tokens does not fit rows of {pack_len}; "
            "lower cutoff_len or raise pack_len"
        )
    trees: list[Sample] = []
    room = 0
    for branch in sample.branches:
        if len(branch.ids) > room:
            trees.append(Sample((branch,), sample.prefix))
            room = pack_len - trees[-1].tokens
        else:
            trees[-1] = Sample((*trees[-1].branches, branch), sample.prefix)
            room -= len(branch.ids)
    return trees


def pack(samples: Sequence[Sample], pack_len: int) -> list[Pack]:
    """Every sample in exactly one pack of at most `pack_len` tokens: best fit, longest first.

    The same samples in the same order give the same packs.

    Raises:
        DataError: a sample longer than a row, or rows longer than `LONGEST_PACK`.
    """
    if pack_len > LONGEST_PACK:
        raise DataError(
            f"pack_len may be at most {LONGEST_PACK} tokens (the mask costs its square), got {pack_len}"
        )
    trees = [tree for sample in samples for tree in split_tree(sample, pack_len)]
    packs: list[list[Sample]] = []
    rooms: list[tuple[int, int]] = []  # (room, pack), ascending
    for tree in sorted(trees, key=lambda tree: -tree.tokens):
        at = bisect_left(rooms, (tree.tokens, 0))
        if at < len(rooms):
            room, chosen = rooms.pop(at)
            packs[chosen].append(tree)
        else:
            room, chosen = pack_len, len(packs)
            packs.append([tree])
        if room > tree.tokens:
            insort(rooms, (room - tree.tokens, chosen))
    return [tuple(members) for members in packs]
