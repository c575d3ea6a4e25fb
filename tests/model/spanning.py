"""A tiny encoder folder in the form of the real one: transformers' own BERT, and a tokenizer like XLM-R's."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

WIDTH, LAYERS, HEADS, POSITIONS = 32, 3, 4, 64
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789.,:?北京上海是在的哪里塔高米é🗼"
WORDS = ["▁query", "▁passage", "▁the", "▁tower", "ing", "北京", "上海", "▁12", "de"]


def tokenizer() -> Tokenizer:
    """Unigram pieces: `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3, as XLM-R numbers them; NFKC in front."""
    pieces = [(special, 0.0) for special in ("<s>", "<pad>", "</s>", "<unk>")]
    pieces += [("▁", -3.0), *((c, -6.0) for c in ALPHABET), *((w, -2.0) for w in WORDS)]
    made = Tokenizer(models.Unigram(pieces, unk_id=3, byte_fallback=False))
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return made


def encoder(folder: Path, seed: int = 0) -> Path:
    """Write config, weights and tokenizer into `folder`."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    made = tokenizer()
    config = BertConfig(
        vocab_size=made.get_vocab_size(),
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=2 * WIDTH,
        max_position_embeddings=POSITIONS,
        layer_norm_eps=1e-12,
        initializer_range=0.3,
    )
    folder.mkdir(parents=True, exist_ok=True)
    BertModel(config).eval().save_pretrained(folder)
    made.save(str(folder / "tokenizer.json"))
    return folder
