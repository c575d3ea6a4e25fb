"""Models handed to programs that are not ours: `python -m model export`.

command.py  the command: a Hugging Face folder, or a GGUF file with its Modelfile
ollama.py   the model put on a running Ollama; the one module here that opens connections
"""
