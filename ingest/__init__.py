"""Documents in, passages out: everything between a folder of files and a ranked list of passages.

`ingest` owns the index. It knows neither the language model (`model`) nor the conversation (`service`).
Importing this package imports no torch; only `ingest.embed` does, and only when an embedder is loaded.
"""
