"""Jinja and Modelfile say what `ChatTemplate` says: by transformers and by a reader of Go templates."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from model.chat import ChatTemplate, Message
from model.errors import UnsupportedModel
from model.template_export import jinja, modelfile
from tests.model.chatml import pair

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
TEMPLATES = [
    ChatTemplate(SYSTEM),
    ChatTemplate(None),
    ChatTemplate('It\'s "quoted", {{braced}}, {% tagged %}\\n,\n\ttabbed; 中文。'),
]

contents = st.text(alphabet=st.sampled_from("ab {}%'\"\\\n\t<|>中é{{ }}"), max_size=12)


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    turns: list[Message] = []
    if draw(st.booleans()):
        turns.append({"role": "system", "content": draw(contents)})
    for i in range(draw(st.integers(1, 5))):
        turns.append({"role": "assistant" if i % 2 else "user", "content": draw(contents)})
    return turns


# -- readers ------------------------------------------------------------------------------------------------


def read_modelfile(text: str) -> list[tuple[str, str]]:
    """Commands of a Modelfile: a word, a space, and a value that a line end closes unless quotes are open.

    Quotes are single or triple and have no escapes; lines that start with # are comments.
    """
    commands, rest = [], text
    while rest := re.sub(r"\A(?:\s|#[^\n]*\n)+", "", rest):
        found = re.match(r'([A-Za-z]+) +(?:"""(.*?)"""(?=\n|\Z)|([^\n]*))\n?', rest, re.DOTALL)
        assert found, rest
        commands.append((found[1].upper(), found[2] if found[2] is not None else found[3]))
        rest = rest[found.end() :]
    return commands


def render_go(template: str, messages: list[Message]) -> str:
    """The part of Go's text/template in use: text, `range .Messages`, `end`, `.Role`, `.Content`, trims.

    `{{- ` drops the white space before it and ` -}}` the white space behind it (pkg.go.dev/text/template).
    """
    parts = re.split(r"\{\{(- )?\s*(.*?)\s*( -)?\}\}", template)
    nodes: list[tuple[str, str]] = [("text", parts[0])]
    for before, action, behind, text in zip(*(parts[i::4] for i in range(1, 5)), strict=True):
        if before:
            nodes[-1] = ("text", nodes[-1][1].rstrip(" \t\r\n"))
        nodes += [("action", action), ("text", text.lstrip(" \t\r\n") if behind else text)]
    out, i = [], 0
    while i < len(nodes):
        kind, value = nodes[i]
        if kind == "text":
            out.append(value)
        else:
            assert value == "range .Messages", value
            end = next(j for j in range(i, len(nodes)) if nodes[j] == ("action", "end"))
            for message in messages:
                for inner, what in nodes[i + 1 : end]:
                    fields = {".Role": message["role"], ".Content": message["content"]}
                    out.append(what if inner == "text" else fields[what])
            i = end
        i += 1
    return "".join(out)


def ollama(text: str, messages: list[Message]) -> str:
    """The prompt that Ollama makes: SYSTEM stands before a conversation without a system turn."""
    commands = dict(read_modelfile(text))
    if "SYSTEM" in commands and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": commands["SYSTEM"]}, *messages]
    return render_go(commands["TEMPLATE"], messages)


# -- tests --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", TEMPLATES, ids=["default", "none", "awkward"])
@given(messages=conversations())
def test_jinja_and_modelfile_say_what_the_template_says(
    template: ChatTemplate, messages: list[Message]
) -> None:
    said = template.text(messages)
    source = jinja(template)
    for reply in (True, False):
        (rendered,), _ = render_jinja_template([messages], chat_template=source, add_generation_prompt=reply)
        assert rendered == template.text(messages, reply=reply)
    assert ollama(modelfile(template, source="./m.gguf", context_length=8192), messages) == said


@pytest.mark.parametrize("template", TEMPLATES, ids=["default", "none", "awkward"])
def test_an_exported_template_is_recognised_as_itself(template: ChatTemplate) -> None:
    assert ChatTemplate.recognise(jinja(template)) == template


def test_the_modelfile_is_this_text() -> None:
    assert modelfile(ChatTemplate(SYSTEM), source="./lore-q8_0.gguf", context_length=8192) == (
        "FROM ./lore-q8_0.gguf\n"
        'TEMPLATE """{{- range .Messages }}<|im_start|>{{ .Role }}\n'
        "{{ .Content }}<|im_end|>\n"
        "{{ end }}<|im_start|>assistant\n"
        '"""\n'
        'SYSTEM """You are a helpful AI assistant named SmolLM, trained by Hugging Face"""\n'
        'PARAMETER stop "<|im_start|>"\n'
        'PARAMETER stop "<|im_end|>"\n'
        "PARAMETER num_ctx 8192\n"
    )


@pytest.mark.parametrize("system", ['say """', "", "bell\a", "wide\u3000space"])
def test_what_a_modelfile_cannot_hold_is_refused(system: str) -> None:
    with pytest.raises(UnsupportedModel, match="Modelfile"):
        modelfile(ChatTemplate(system), source="m.gguf", context_length=64)
    with pytest.raises(UnsupportedModel, match="FROM"):
        modelfile(ChatTemplate(), source="m\n.gguf", context_length=64)


CHATS: list[list[Message]] = [
    [{"role": "user", "content": "Who are you?"}],
    [
        {"role": "system", "content": "Answer in one word."},
        {"role": "user", "content": "What is the capital of France?"},
        {"role": "assistant", "content": "Paris."},
        {"role": "user", "content": "你是谁？ 12345"},
        {"role": "assistant", "content": "我是 Lore。\n\nI am Lore.  "},
    ],
]


@pytest.mark.parametrize("messages", CHATS, ids=["one", "multi-turn"])
@pytest.mark.parametrize("template", TEMPLATES[:2], ids=["default", "none"])
def test_ids_and_mask_are_those_of_transformers(
    template: ChatTemplate, messages: list[Message], tmp_path: Path
) -> None:
    ours, theirs = pair(tmp_path)
    for reply in (True, False):
        conversation = template.encode(messages, ours, reply=reply)
        expected = theirs.apply_chat_template(
            messages, chat_template=jinja(template), add_generation_prompt=reply, return_dict=True
        )
        assert conversation.ids == expected["input_ids"]
    # transformers marks what stands between its own generation tags: the reply and the end token.
    tagged = re.sub(
        r"\{% for message in messages %\}.*?\{% endfor %\}",
        lambda _: (
            "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
            "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}"
            "{% endgeneration %}{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}"
            "{{ '\\n' }}{% endfor %}"
        ),
        jinja(template),
    )
    marked = theirs.apply_chat_template(
        messages, chat_template=tagged, return_dict=True, return_assistant_tokens_mask=True
    )
    assert marked["input_ids"] == conversation.ids
    assert [bool(bit) for bit in marked["assistant_masks"]] == conversation.mask
