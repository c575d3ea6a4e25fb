"""Which sentences answer: for questions that a few words do not answer, in English and Chinese.

stretches.py  what may be quoted of the passages: a sentence with what it announces, an item, a list, a row
features.py   what is known of each, from words, meaning, headings, the search and both readers
chooser.py    the likeliest of them, what else belongs to the answer, and how likely it is right
calibrator.json
              from what is known to a probability (`benchmarks/sentence_questions.py`)
"""
