"""The comparison: the same questions through every way of answering, scored, with intervals, as a report.

A walk through it: `questions` reads files, `modes` says how each way asks, `run` asks and appends every reply
to `answers.jsonl`, `scoring` and `statistics` judge replies, `report` puts the figures together, and
`terminal` and `page` show them. Replies are kept and judged anew at each report: a better metric needs no
second run.
"""
