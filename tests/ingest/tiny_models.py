"""Folders of tiny random models in the forms of BERT: an embedder, a cross-encoder; and texts to try them on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TEXTS = [
    "The tortoise lives in the garden.",
    "乌龟住在花园里。",
    "",
    "😀 emoji and R123-78, deepseek-r1:1.5b",
    "short",
    "a longer text about rivers and stones " * 12,
    "\0 control \x1b characters \ufffd",
]


def write_tokenizer(folder: Path, *more_words: str, **options: Any) -> int:
    """A word-piece tokenizer that knows every ASCII letter; returns how many tokens it knows."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = [chr(c) for c in range(33, 127)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{c}" for c in letters), *more_words]
    tokenizer = Tokenizer(models.WordPiece({t: i for i, t in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        **options,
    ).save_pretrained(folder)
    return len(vocabulary)


def bert_config(tokens: int, **more: Any) -> Any:
    """Two layers, 32 wide; the seed of its weights is set here."""
    import torch
    from transformers import BertConfig

    torch.manual_seed(0)
    return BertConfig(
        vocab_size=tokens,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        pad_token_id=0,
        **more,
    )


def make_embedder(source: Path, folder: Path) -> Path:
    """A sentence-transformers folder of the e5 form; `source` is a folder for what it is made of."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import BertModel

    tokens = write_tokenizer(source, "query", "passage", "the", model_max_length=48)
    BertModel(bert_config(tokens)).save_pretrained(source)
    model = SentenceTransformer(
        modules=[
            Transformer(str(source), max_seq_length=48),
            Pooling(32, pooling_mode="mean"),
            Normalize(),
        ],
        prompts={"query": "query: ", "document": "passage: "},
        device="cpu",
    )
    model.save(str(folder))
    return folder


def make_cross_encoder(folder: Path, labels: int = 1) -> Path:
    """A cross-encoder whose scores differ from pair to pair."""
    from transformers import BertForSequenceClassification

    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    tokens = write_tokenizer(folder, model_max_length=64, model_input_names=inputs)
    config = bert_config(tokens, num_labels=labels, initializer_range=0.5)
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder
