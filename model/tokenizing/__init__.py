"""Tokenizers of one's own: trained on one's own text, kept for every program, looked at side by side.

train.py     bpe | char | wordpiece | word, by the tokenizers library
shelf.py     LOREBASE_HOME/tokenizers/NAME: tokenizer.json and what transformers needs beside it
compare.py   how each cuts a text, and how fast four libraries encode it
command.py   `python -m model tokenizer train|compare|inspect`
"""
