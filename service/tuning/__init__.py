"""From a collection to an adapter that was trained on it, and to a report on whether that was worth it.

form.py         what the question writer is asked: the reading form, turned round
"""
