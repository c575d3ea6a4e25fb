"""The project's own GPT stack: weights, tokenizer, decoder, generation engine (and, next, the trainer).

`model` owns the language model. It knows neither the index (`ingest`) nor the conversation (`service`), and
only `model.__main__` reads settings or the environment.
"""
