"""Tokenizers that were trained here: `LOREBASE_HOME/tokenizers/NAME`, a folder that transformers loads, too.

tokenizer.json         the tokenizers library's file
tokenizer_config.json  for `AutoTokenizer.from_pretrained`: special tokens, and ChatML where it has them
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from tokenizers import Tokenizer

from model import folder, template_export
from model.chat import END, START, ChatTemplate
from model.errors import TokenizerError
from model.layout import TOKENIZER_FILE
from model.tokenizing.train import END_OF_TEXT, FIRST, LAST, UNKNOWN

CONFIG_FILE = "tokenizer_config.json"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def free(name: str, home: Path) -> Path:
    """The folder for a tokenizer of that name, which is not there yet.

    Raises:
        TokenizerError: a name that cannot be one, or is taken.
    """
    target = home / "tokenizers" / name
    if not NAME.fullmatch(name):
        raise TokenizerError(
            f"{name!r} cannot be a tokenizer's name: letters, digits, . _ - and at most 100 of them"
        )
    if target.exists():
        raise TokenizerError(f"the tokenizer {target} exists; choose another --name, or remove it")
    return target


def save(made: Tokenizer, name: str, home: Path, about: dict[str, object]) -> Path:
    """Keep a tokenizer under a name; its folder.

    Raises:
        TokenizerError: a name that cannot be one, or is taken.
        CheckpointError: the disk refused.
    """
    target = free(name, home)
    config: dict[str, object] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "add_prefix_space": False,
    }
    has = made.get_vocab(with_added_tokens=True)
    roles = {"unk_token": UNKNOWN, "bos_token": FIRST, "eos_token": LAST}
    if END_OF_TEXT in has:
        roles = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "pad_token": END_OF_TEXT}
    config |= {role: token for role, token in roles.items() if token in has}
    if START in has and END in has:
        config["chat_template"] = template_export.jinja(ChatTemplate(None))
    with folder.replaced(target, {"kind": "tokenizer"} | about) as new:
        made.save(str(new / TOKENIZER_FILE))
        text = json.dumps(config, indent=1, ensure_ascii=False)
        (new / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
    return target


def find(name: str, home: Path) -> Path:
    """The `tokenizer.json` of a trained tokenizer, of an installed model, or at a path.

    Raises:
        TokenizerError: there is none; lists those that there are.
    """
    places = [home / "tokenizers" / name, home / "models" / name] if NAME.fullmatch(name) else []
    for place in (*places, Path(name).expanduser()):
        file = place / TOKENIZER_FILE if place.is_dir() else place
        if file.is_file():
            return file.resolve()
    there = sorted(
        path.parent.name
        for shelf in ("tokenizers", "models")
        for path in (home / shelf).glob(f"*/{TOKENIZER_FILE}")
        if not path.parent.name.startswith(".")
    )
    raise TokenizerError(
        f"there is no tokenizer {name!r}; there are {', '.join(there) or 'none'}. "
        "Train one: python -m model tokenizer train --name NAME FILES"
    )


def library(file: Path) -> Tokenizer:
    """The tokenizers library's own, whatever its kind.

    Raises:
        TokenizerError: not its file.
    """
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception
        raise TokenizerError(f"{file} is not a tokenizer.json: {error}") from error
