"""Answers in the documents' own words, found by the span reader (`model.spans`), in any language.

candidates.py   what the passages say, and what is known of each: the calibrator's features
quoter.py       the span reader and its calibrator, loaded when the first question needs them
calibrator.json how likely a span is right (`benchmarks/span_calibration.py`)
"""
