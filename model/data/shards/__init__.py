"""Texts to learn a language from: files to texts, texts to token shards, shards to windows.

texts.py     raw text, JSONL and parquet, files and folders, to independent texts
config.py    the settings
build.py     texts to shards of ids with a manifest, resumable, nothing half written
stream.py    shards, checked and memory-mapped, as one row of ids
windows.py   sliding windows over it, as micro-batches in an order that can be resumed
"""
