"""Learning from what is preferred: pairs of replies, and rewards.

pairs.py     preference sets as micro-batches, prompt and both replies in one row
logprobs.py  log-probabilities of tokens, with gradients, in pieces
dpo.py       direct preference optimisation
reward.py    a reward head, by Bradley and Terry
rewards.py   rewards by name: of a head, or of a rule
rollouts.py  replies of the model as it stands, with their rewards, as micro-batches
grpo.py      policy gradients from groups of replies, held near the base
"""
