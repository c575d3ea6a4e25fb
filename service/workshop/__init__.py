"""Where models are made and measured: training sets, runs, merges, exports and comparisons.

sets.py         training sets and questions that were uploaded
runs.py         training runs, each a process of its own that outlives the service
making.py       adapters folded in, models written for other programs
comparisons.py  the comparison of ways of answering, also a process of its own
"""
