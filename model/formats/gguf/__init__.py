"""GGUF files (the format of ggml and llama.cpp) of the Llama, Qwen2 and GPT-2 families, read and written."""

from model.formats.gguf.reader import read
from model.formats.gguf.writer import write

__all__ = ["read", "write"]
