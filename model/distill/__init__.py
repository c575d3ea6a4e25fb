"""A small model learns from a larger one: from its probabilities, or from its replies.

loss.py      Kullback-Leibler divergence from a teacher's next-token distribution, in pieces
replies.py   replies of a model in Ollama, fetched into a set to imitate
command.py   `python -m model distill`
"""
