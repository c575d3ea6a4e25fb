r"""The one chat template, written down for programs that are not ours: Jinja and Ollama's Modelfile.

Both say exactly what `ChatTemplate.text` says; tests render them and compare. What cannot be said in such a
file is refused, never approximated.

* Jinja is what `tokenizer_config.json` carries for transformers, vLLM and llama.cpp: one line, nothing but
  `if`, `for`, string literals and `+`, which every one of their Jinja engines has.
* A Modelfile's TEMPLATE is a Go template over `.Messages`. Ollama puts SYSTEM in front of a conversation that
  has no system turn, which is our default system turn; BOS comes from the GGUF. The reply ends at the stop
  strings, and `num_ctx` is set, since Ollama's default is shorter than the model's window and cuts prompts
  without a word.
"""

from __future__ import annotations

from typing import Any

from model.chat import END, START, ChatTemplate
from model.errors import UnsupportedModel

#: Over `.Messages`, in Go's template language; the reply's header stands open at the end.
GO_TEMPLATE = (
    "{{- range .Messages }}"
    + START
    + "{{ .Role }}\n{{ .Content }}"
    + END
    + "\n{{ end }}"
    + START
    + "assistant\n"
)


def jinja(template: ChatTemplate) -> str:
    """The template as a Hugging Face `chat_template`; it reads `messages` and `add_generation_prompt`."""
    default = ""
    if template.default_system is not None:
        literal = _literal(f"{START}system\n{template.default_system}{END}\n")
        default = (
            f"{{% if not messages or messages[0]['role'] != 'system' %}}{{{{ {literal} }}}}{{% endif %}}"
        )
    content = "(message['content'] | trim)" if template.trims else "message['content']"
    turn = f"'{START}' + message['role'] + '\\n' + {content} + '{END}\\n'"
    return (
        ("{{ bos_token }}" if template.begins else "")
        + default
        + f"{{% for message in messages %}}{{{{ {turn} }}}}{{% endfor %}}"
        + f"{{% if add_generation_prompt %}}{{{{ '{START}assistant\\n' }}}}{{% endif %}}"
    )


def modelfile(template: ChatTemplate | None, *, source: str, context_length: int) -> str:
    """A Modelfile for Ollama.

    Args:
        template: what the model was trained with; None for one that only continues text.
        source: what FROM names: the path of a GGUF file, as seen from the Modelfile.
        context_length: `num_ctx`, tokens of prompt and reply together.

    Raises:
        UnsupportedModel: a default system turn, or a path, that a Modelfile cannot hold.
    """
    if "\n" in source or not source.strip():
        raise UnsupportedModel(f"Modelfile: FROM cannot name {source!r}")
    fields = ollama_fields(template, context_length=context_length)
    lines = [f"FROM {source}"]
    lines += [f'{key.upper()} """{fields[key]}"""' for key in ("template", "system") if key in fields]
    for name, value in fields["parameters"].items():
        lines += [f'PARAMETER {name} "{v}"' for v in value] if isinstance(value, list) else []
        lines += [f"PARAMETER {name} {value}"] if isinstance(value, int) else []
    return "\n".join(lines) + "\n"


def ollama_fields(template: ChatTemplate | None, *, context_length: int) -> dict[str, Any]:
    """What `/api/create` takes beside the file: the Modelfile's lines as template, system and parameters.

    Raises:
        UnsupportedModel: a default system turn that a Modelfile cannot hold, or a template that trims.
    """
    if template is None:
        return {"template": "{{ .Prompt }}", "parameters": {"num_ctx": context_length}}
    if template.trims:
        raise UnsupportedModel(
            "Modelfile: the chat template drops white space around turns, which Go's cannot"
        )
    system = template.default_system
    fields: dict[str, Any] = {"template": GO_TEMPLATE}
    if system is not None:
        fields["system"] = _modelfile_text(system)
    return fields | {"parameters": {"stop": [START, END], "num_ctx": context_length}}


def _literal(text: str) -> str:
    """A Jinja string literal; the escapes are those that every engine knows."""
    for sign, escape in (("\\", "\\\\"), ("'", "\\'"), ("\n", "\\n"), ("\t", "\\t"), ("\r", "\\r")):
        text = text.replace(sign, escape)
    return f"'{text}'"


def _modelfile_text(text: str) -> str:
    """`text` between triple quotes: Ollama's parser has no escapes, and drops unprintable signs."""
    lost = next((sign for sign in text if not (sign.isprintable() or sign in "\n\t")), None)
    if lost or not text or '"""' in text:
        why = f"the character {lost!r}" if lost else 'nothing, or """'
        raise UnsupportedModel(f"Modelfile: a default system turn cannot hold {why}: {text[:60]!r}")
    return text
