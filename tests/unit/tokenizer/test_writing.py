"""The result's tokenizer, opened again by transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, models, processors
from transformers import AutoTokenizer

from mergery.checkpoint import ModelRef
from mergery.errors import CheckpointError
from mergery.tokenizer import (
    TokenizerSettings,
    TokenSettings,
    Vocabulary,
    build_vocabulary,
    config_changes,
    write_tokenizer,
)

from .conftest import bpe_model, special

UNION, BASE = TokenizerSettings("union"), TokenizerSettings("base")
SETTINGS = {"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "<pad>"}


def build(settings: TokenizerSettings, base: ModelRef, *others: ModelRef, rows: int = 100) -> Vocabulary:
    refs = (base, *others)
    return build_vocabulary(
        settings, {ref: Path(ref.path) for ref in refs}, base, dict.fromkeys(refs, rows), trim=True
    )


def written(vocabulary: Vocabulary, directory: Path) -> object:
    """The tokenizer as transformers reads it, checked against the table."""
    directory.mkdir()
    names = write_tokenizer(vocabulary, directory)
    assert sorted(path.name for path in directory.iterdir()) == list(names)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    assert tokenizer.get_vocab() == dict(vocabulary.tokens)
    return tokenizer


def edit(ref: ModelRef, **values: object) -> None:
    """Change a tokenizer.json."""
    file = Path(ref.path) / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_added_tokens_come_with_their_flags(words, tmp_path):
    a = words("a", "<unk> cat dog </s> <pad>", settings=SETTINGS)
    b = words("b", "<unk> cat dog </s> <pad>", special("<im>", lstrip=True), AddedToken("don't"))
    tokenizer = written(build(UNION, a, b), tmp_path / "out")
    old = AutoTokenizer.from_pretrained(a.path)
    assert tokenizer.encode("cat dog owl") == old.encode("cat dog owl") == [1, 2, 0]
    assert tokenizer.encode("cat <im>dog don't") == [1, 5, 2, 6]
    assert tokenizer.decode([1, 5, 2], skip_special_tokens=True) == "cat dog"
    assert tokenizer.added_tokens_decoder[5].lstrip
    assert not tokenizer.added_tokens_decoder[6].special
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (3, 4)


def test_words_of_other_models_are_words(words, tmp_path):
    """Also behind added tokens of the base, whose ids they must not take."""
    a = words("a", "<unk> cat", special("<pad>"), special("<im>"))
    b = words("b", "<unk> cats owl", special("<end>"))
    tokenizer = written(build(UNION, a, b), tmp_path / "out")
    assert tokenizer.encode("cat<im> cats owl <end> catscat") == [1, 3, 4, 5, 6, 0]


def test_a_language_expert_of_the_same_family(save, tmp_path):
    """Its pieces are joined as by its own tokenizer; text of the base's as by the base's."""
    shared = [("t", "h"), ("th", "e"), ("a", "n"), ("an", "d")]
    more = [("h", "a"), ("n", "a"), ("ha", "na"), ("th", "ha")]
    a = save("a", bpe_model("theandk", shared), [special("<pad>")])
    b = save("b", bpe_model("theandkio", [*shared, *more]), [special("<end>")])
    vocabulary = build(UNION, a, b)
    tokenizer = written(vocabulary, tmp_path / "out")
    old, theirs = (AutoTokenizer.from_pretrained(ref.path) for ref in (a, b))
    assert list(vocabulary.tokens)[-7:] == ["i", "o", "ha", "na", "hana", "thha", "<end>"]
    assert tokenizer.encode("the and<pad> ant") == old.encode("the and<pad> ant")
    for text in ("the hana and thana", "kio hanahana<end>"):
        assert tokenizer.tokenize(text) == theirs.tokenize(text)
    assert vocabulary.notes == ()


def test_pieces_of_another_kind_of_tokenizer(save, words, tmp_path):
    a = save("a", bpe_model("catdog", [("c", "a")]))
    b = words("b", "<unk> cat dog")
    vocabulary = build(UNION, a, b)
    tokenizer = written(vocabulary, tmp_path / "out")
    assert tokenizer.tokenize("cat") == ["ca", "t"]
    (note,) = vocabulary.notes
    assert "3 of its tokens" in note
    assert "WordLevel" in note


def test_unigram_pieces_keep_their_scores(save, tmp_path):
    first = [("<unk>", 0.0), ("▁", -2.0), ("a", -3.0), ("b", -3.0), ("▁a", -4.0)]
    a = save("a", models.Unigram(first, 0), [special("<pad>")])
    b = save("b", models.Unigram([*first, ("ab", -3.5), ("▁ab", -1.0)], 0), [special("<end>")])
    tokenizer = written(build(UNION, a, b), tmp_path / "out")
    old, theirs = (AutoTokenizer.from_pretrained(ref.path) for ref in (a, b))
    assert tokenizer.encode("a<pad>") == old.encode("a<pad>")
    assert tokenizer.tokenize("ab a<pad>ab<end>") == ["▁ab", "▁a", "<pad>", "▁ab", "<end>"]
    assert tokenizer.tokenize("ab a bab") == theirs.tokenize("ab a bab")


def test_wordpieces(save, tmp_path):
    pieces = {text: row for row, text in enumerate(["[UNK]", "play", "##ing", "##ed"])}
    a = save("a", models.WordPiece(pieces, unk_token="[UNK]"), [special("[PAD]")])
    b = save("b", models.WordPiece(pieces | {"##er": 4}, unk_token="[UNK]"))
    tokenizer = written(build(UNION, a, b), tmp_path / "out")
    assert tokenizer.encode("playing player [PAD]") == [1, 2, 1, 5, 4]


def test_tokens_that_the_recipe_names(words, tmp_path):
    a = words("a", "<unk> cat")
    named = TokenizerSettings("base", {"<|im_start|>": TokenSettings(), "cat": TokenSettings()})
    tokenizer = written(build(named, a), tmp_path / "out")
    assert tokenizer.encode("cat<|im_start|>cat") == [1, 2, 1]


def test_numbers_with_gaps_are_kept(save, tmp_path):
    a = save("a", models.WordLevel({"<unk>": 0, "cat": 1, "dog": 9}, unk_token="<unk>"))
    b = save("b", models.WordLevel({"<unk>": 0}, unk_token="<unk>"), [special("<im>")])
    tokenizer = written(build(UNION, a, b), tmp_path / "out")
    assert tokenizer.encode("cat dog<im>") == [1, 9, 10]


def test_tokenizers_that_cannot_take_the_table(save):
    b = save("b", models.WordLevel({"x": 0}, unk_token="x"), [special("<im>")])
    twice = save("twice", models.Unigram([("<unk>", 0.0), ("a", -1.0), ("a", -2.0)], 0))
    with pytest.raises(CheckpointError, match="have gaps, which a Unigram tokenizer cannot keep"):
        build(UNION, twice, b)
    late = save("late", models.Unigram([("a", -1.0), ("<unk>", 0.0)], 1))
    with pytest.raises(CheckpointError, match="does not take the tokens"):
        build(BASE, late, rows=1)


def test_a_tokenizer_taken_as_it_stands_is_copied(words, tmp_path):
    a = words("a", "<unk> cat", settings={"chat_template": "{{ messages }}"})
    others = {"vocab.json": "{}", "tokenizer.model": "x", "generation_config.json": '{"top_k":  4}'}
    for name, text in others.items():
        (Path(a.path) / name).write_text(text)
    folder = Path(a.path) / "additional_chat_templates"
    folder.mkdir()
    (folder / "tool_use.jinja").write_text("{{ tools }}")
    written(build(BASE, a), tmp_path / "out")
    for name in (
        "tokenizer.json",
        "tokenizer_config.json",
        *others,
        "additional_chat_templates/tool_use.jinja",
    ):
        assert (tmp_path / "out" / name).read_bytes() == (Path(a.path) / name).read_bytes()
    assert not (tmp_path / "out" / "config.json").exists()


def test_a_changed_one_leaves_stale_files_behind(words, tmp_path):
    a, b = words("a", "<unk> cat"), words("b", "<unk> dog")
    for name in ("vocab.json", "merges.txt", "tokenizer.model", "added_tokens.json"):
        (Path(a.path) / name).write_text("{}")
    (Path(a.path) / "chat_template.jinja").write_text("{{ messages }}")
    tokenizer = written(build(UNION, a, b), tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["chat_template.jinja", "tokenizer.json", "tokenizer_config.json"]
    assert tokenizer.chat_template == "{{ messages }}"


@pytest.mark.parametrize("extra", [["<x>", "</s>"], {"x_token": "<x>", "end_token": "</s>"}])
def test_dropped_tokens_do_not_come_back(words, tmp_path, extra):
    settings = {
        "pad_token": "<pad>",
        "eos_token": {"__type": "AddedToken", "content": "</s>"},
        "extra_special_tokens": extra,
        "image_token": "<image>",
    }
    a = words("a", "<unk> </s>", special("<pad>"), settings=settings)
    (Path(a.path) / "special_tokens_map.json").write_text('{"pad_token": "<pad>", "eos_token": "</s>"}')
    tokenizer = written(build(BASE, a, rows=2), tmp_path / "out")
    assert tokenizer.get_vocab() == {"<unk>": 0, "</s>": 1}
    assert tokenizer.pad_token is None
    assert tokenizer.eos_token_id == 1


def test_the_older_list_of_added_tokens_is_kept_up(words, tmp_path):
    decoder = {"2": {"content": "<pad>", "special": True}}
    a = words("a", "<unk> cat", special("<pad>"), settings={"added_tokens_decoder": decoder})
    b = words("b", "<unk> cat", special("<im>", rstrip=True))
    written(build(UNION, a, b), tmp_path / "out")
    settings = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert {row: token["content"] for row, token in settings["added_tokens_decoder"].items()} == {
        "2": "<pad>",
        "3": "<im>",
    }
    assert settings["added_tokens_decoder"]["3"]["rstrip"]


def test_classes_that_build_themselves_from_the_vocabulary(save, tmp_path):
    """Qwen2Tokenizer takes vocabulary and merges out of tokenizer.json and makes the rest anew."""
    qwen = {"tokenizer_class": "Qwen2Tokenizer", "unk_token": None}
    settings = qwen | {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    a = save("a", bpe_model("abcĠ", [("a", "b")]), [special("<|endoftext|>")], settings)
    b = save("b", bpe_model("abcĠ", [("a", "b"), ("ab", "c")]), [special("<im>")], qwen)
    tokenizer = written(build(UNION, a, b), tmp_path / "out")
    assert type(tokenizer).__name__ == "Qwen2Tokenizer"
    assert tokenizer.tokenize("abc ab<im>") == ["abc", "Ġ", "ab", "<im>"]


def test_tokens_put_around_texts_are_renumbered(words, tmp_path):
    a = words("a", "<unk> cat", special("<s>"))
    b = words("b", "<unk> cat dog", special("<s>"))
    around = processors.Sequence(
        [
            processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 2)]),
            processors.RobertaProcessing(("<s>", 2), ("<unk>", 0)),
        ]
    )
    tokenizer = Tokenizer.from_file(str(Path(a.path) / "tokenizer.json"))
    tokenizer.post_processor = around
    tokenizer.enable_padding(pad_id=2, pad_token="<s>")
    tokenizer.save(str(Path(a.path) / "tokenizer.json"))
    refs = {ref: Path(ref.path) for ref in (a, b)}
    found = build_vocabulary(UNION, refs, a, {a: 2, b: 4})
    first, second = json.loads(found.definition)["post_processor"]["processors"]
    assert first["special_tokens"]["<s>"] == {"id": "<s>", "ids": [3], "tokens": ["<s>"]}
    assert (second["sep"], second["cls"]) == (["<s>", 3], ["<unk>", 0])
    assert json.loads(found.definition)["padding"]["pad_id"] == 3
    with pytest.raises(CheckpointError, match="puts '<s>' around texts"):
        build_vocabulary(BASE, refs, a, {a: 2, b: 4})


def test_configuration_of_the_base(words, tmp_path):
    config = {"vocab_size": 2, "eos_token_id": [1, 2], "pad_token_id": 2, "bos_token_id": None, "k": 1}
    a = words("a", "<unk> cat", special("<pad>"), config=config)
    b = words("b", "<unk> cat dog", special("<pad>"))
    (Path(a.path) / "generation_config.json").write_text('{"pad_token_id": 2, "eos_token_id": 1, "top_k": 5}')
    found = build_vocabulary(UNION, {ref: Path(ref.path) for ref in (a, b)}, a, {a: 2, b: 4})
    assert config_changes(found, config, a) == {"vocab_size": 4, "eos_token_id": [1, 3], "pad_token_id": 3}
    written(found, tmp_path / "out")
    generation = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert generation == {"pad_token_id": 3, "eos_token_id": 1, "top_k": 5}
    alone = build_vocabulary(BASE, {a: Path(a.path)}, a, {a: 2})
    assert config_changes(alone, config, a) == {"eos_token_id": [1], "pad_token_id": None}


def test_configuration_where_the_tokenizer_is_another_models(words):
    a = words("a", "<unk> </s> <image>")
    theirs = {"eos_token_id": 3, "text_config": {"bos_token_id": 1}}
    b = words("b", "<unk> <s> <image> <end> </s>", config=theirs)
    config = {"vocab_size": 3, "eos_token_id": 1, "pad_token_id": -1, "image_token_index": 2}
    found = build(TokenizerSettings(b), a, b, rows=5)
    assert config_changes(found, config, a) == {"vocab_size": 5, "eos_token_id": 3, "bos_token_id": 1}
    nested = {"text_config": {"vocab_size": 3, "eos_token_id": 1, "hidden_size": 8}, "image_token_index": 2}
    assert config_changes(found, nested, a) == {
        "text_config": {"vocab_size": 5, "eos_token_id": 3, "bos_token_id": 1, "hidden_size": 8},
        "eos_token_id": 3,
        "bos_token_id": 1,
    }


def test_a_merged_model_finds_its_rows(make_model, tokenizer, tmp_path):
    """A base and an expert with one more token: the expert's row of it, every other one averaged."""
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM

    base = make_model("base")
    expert = make_model("expert", near=0, vocab_size=len(tokenizer) + 1)
    expert_tokenizer = AutoTokenizer.from_pretrained(expert)
    expert_tokenizer.add_tokens([special("<im>")])
    expert_tokenizer.save_pretrained(expert)
    refs = [ModelRef(str(base)), ModelRef(str(expert))]
    weights = [load_file(directory / "model.safetensors") for directory in (base, expert)]
    tables = [tensors["model.embed_tokens.weight"] for tensors in weights]
    sizes = {ref: len(table) for ref, table in zip(refs, tables, strict=True)}
    found = build_vocabulary(UNION, {ref: Path(ref.path) for ref in refs}, refs[0], sizes)
    gathered = []
    for ref in refs:
        donor, row = found.maps[ref].donor.tolist(), found.maps[ref].row.tolist()
        gathered.append(torch.stack([tables[model][place] for model, place in zip(donor, row, strict=True)]))
    merged = {name: (weights[0][name] + weights[1][name]) / 2 for name in weights[0] if "embed" not in name}
    merged["model.embed_tokens.weight"] = (gathered[0] + gathered[1]) / 2
    out = tmp_path / "out"
    read = written(found, out)
    config = json.loads((base / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(config | config_changes(found, config, refs[0])))
    save_file(merged, out / "model.safetensors", metadata={"format": "pt"})
    model = AutoModelForCausalLM.from_pretrained(out)
    table = model.get_input_embeddings().weight
    assert torch.equal(table[read.convert_tokens_to_ids("<im>")], tables[1][-1])
    cat = read.convert_tokens_to_ids("cat")
    assert torch.allclose(table[cat], (tables[0][cat] + tables[1][cat]) / 2)
    assert model(torch.tensor([read.encode("the cat <im>")])).logits.isfinite().all()
