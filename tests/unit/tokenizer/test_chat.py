"""Chat templates, rendered by transformers and compared with texts written out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from mergery.errors import RecipeError
from mergery.tokenizer import CHAT_TEMPLATES, resolve_chat_template, write_chat_template

S = {"role": "system", "content": "Be kind."}
U = {"role": "user", "content": "Hi"}
A = {"role": "assistant", "content": "Hello"}
V = {"role": "user", "content": "Why?"}

RENDERED = [
    (
        "chatml",
        [S, U, A, V],
        True,
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n",
    ),
    ("chatml", [U, A], False, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"),
    (
        "llama3",
        [S, U, A, V],
        True,
        "<s><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    ("mistral", [S, U, A, V], True, "<s> [INST] Be kind.\n\nHi [/INST] Hello</s> [INST] Why? [/INST]"),
    ("mistral", [U, A], False, "<s> [INST] Hi [/INST] Hello</s>"),
    (
        "alpaca",
        [U, A, V],
        True,
        "<s>Below is an instruction that describes a task. Write a response that appropriately completes the "
        "request.\n\n### Instruction:\nHi\n\n### Response:\nHello</s>\n\n"
        "### Instruction:\nWhy?\n\n### Response:\n",
    ),
    ("alpaca", [S, U], True, "<s>Be kind.\n\n### Instruction:\nHi\n\n### Response:\n"),
    (
        "exaone",
        [U, A, V],
        True,
        "[|system|][|endofturn|]\n[|user|]Hi\n[|assistant|]Hello[|endofturn|]\n[|user|]Why?\n[|assistant|]",
    ),
    ("exaone", [S, U], False, "[|system|]Be kind.[|endofturn|]\n[|user|]Hi\n"),
]


def render(directory: Path, messages: list[dict[str, str]], prompt: bool) -> str:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)


@pytest.mark.parametrize(("name", "messages", "prompt", "expected"), RENDERED)
def test_built_in_formats(words, tmp_path, name, messages, prompt, expected):
    words("m", "<unk> <s> </s>", settings={"bos_token": "<s>", "eos_token": "</s>"})
    write_chat_template(tmp_path / "m", resolve_chat_template(name, ()))
    assert render(tmp_path / "m", messages, prompt) == expected


def test_a_tokenizer_without_begin_and_end(words, tmp_path):
    words("m", "<unk>")
    for name in CHAT_TEMPLATES:
        write_chat_template(tmp_path / "m", resolve_chat_template(name, ()))
        assert "Hello" in render(tmp_path / "m", [U, A], False)
    assert CHAT_TEMPLATES == ("alpaca", "chatml", "exaone", "llama3", "mistral")


@pytest.mark.parametrize("name", ["alpaca", "mistral"])
def test_roles_that_a_format_does_not_have(words, tmp_path, name):
    words("m", "<unk>")
    write_chat_template(tmp_path / "m", resolve_chat_template(name, ()))
    with pytest.raises(Exception, match="not tool"):
        render(tmp_path / "m", [U, {"role": "tool", "content": "4"}], False)


def test_the_most_common_one(words, tmp_path):
    names = ["a", "b", "c", "d", "e", "f"]
    for name in names:
        words(name, "<unk>")
    folders = [tmp_path / name for name in names]
    write_chat_template(folders[1], "{{ one }}")
    write_chat_template(folders[2], "{{ two }}\n")
    assert resolve_chat_template("auto", folders) == "{{ one }}"  # a tie: the first listed
    (folders[3] / "tokenizer_config.json").write_text(json.dumps({"chat_template": " {{ two }}"}))
    assert resolve_chat_template("auto", folders) == "{{ two }}"
    named = [{"name": "tools", "template": "{{ tools }}"}, {"name": "default", "template": "{{ one }}"}]
    (folders[4] / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    (folders[5] / "chat_template.json").write_text(json.dumps({"chat_template": "{{ one }}"}))
    assert resolve_chat_template("auto", folders) == "{{ one }}"
    assert resolve_chat_template("auto", folders[:1]) is None


def test_literal_jinja():
    text = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% break %}{% endfor %}"
    assert resolve_chat_template(text, ()) == text
    with pytest.raises(RecipeError, match="chat_template: line 2") as caught:
        resolve_chat_template("{% for m in messages %}\n{% endif %}", ())
    assert "Jinja" in caught.value.fix


def test_an_unknown_name():
    with pytest.raises(RecipeError) as caught:
        resolve_chat_template("chat-ml", ())
    assert caught.value.fix == "did you mean chatml?"


def test_it_replaces_every_other_one(words, tmp_path):
    words("m", "<unk>", settings={"chat_template": "{{ old }}", "model_max_length": 7})
    folder = tmp_path / "m" / "additional_chat_templates"
    folder.mkdir()
    (folder / "tool_use.jinja").write_text("{{ tools }}")
    (tmp_path / "m" / "chat_template.json").write_text("{}")
    assert write_chat_template(tmp_path / "m", "{{ 'new\\n' }}") == (
        "chat_template.jinja",
        "tokenizer_config.json",
    )
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    assert tokenizer.chat_template == "{{ 'new\\n' }}"
    assert tokenizer.model_max_length == 7
    assert "chat_template" not in json.loads((tmp_path / "m" / "tokenizer_config.json").read_text())
    assert write_chat_template(tmp_path / "m", "{{ 1 }}") == ("chat_template.jinja",)
