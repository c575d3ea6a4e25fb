"""Hugging Face checkpoint folders of the Llama, Qwen2 and GPT-2 families, read and written."""

from model.formats.hf.families import GPT2_NAMES, LLAMA_NAMES
from model.formats.hf.reader import read
from model.formats.hf.writer import write

__all__ = ["GPT2_NAMES", "LLAMA_NAMES", "read", "write"]
