"""How good a language model is: on plain text, on instructions with known replies, and in a judge's eyes.

perplexity.py   perplexity and bits per byte over a sliding window
instructions.py replies to held-out instructions, and exact matches
judge.py        marks from 0 to 100 by a model in Ollama, before against after
command.py      `python -m model evaluate`
"""
