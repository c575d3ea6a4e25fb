"""What a question asks for, judged by its own words alone, in English and Chinese (both scripts).

wanted.py       a few words, or sentences; yes or no; words that only say the question again
kinds.py        which sentences: a way, a list, a comparison, a reason, a summary, a definition
definitions.py  what something is, and lists: whether a few words answer, and which sentence tells
compared.py     the things that a comparison sets beside each other
tabular.py      the most or least, how many, which ones, a total or a cell of a table
names.py        the names in it, by how they are written

The first decides how an answer looks and the readers' calibrators rest on it, so it is narrow. The kinds are
wide: they weigh sentences, and say in Chinese, where no generator would try a few words, who answers.
"""
