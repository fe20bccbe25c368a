from __future__ import annotations

import json

import pytest

from mergery.errors import DataError
from mergery.evaluate import Items, disjoint, load_items
from mergery.evaluate.items import Item


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "items.jsonl"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def lines(*pairs: tuple[str, str]) -> str:
    return "".join(json.dumps({"prompt": prompt, "answer": answer}) + "\n" for prompt, answer in pairs)


def test_items_are_read_in_order_with_their_lines(write):
    path = write('{"prompt": "a", "answer": " b", "id": "x"}\n\n{"answer": " ü", "prompt": "c", "id": 7}\n')
    items = load_items(path)
    assert [(item.prompt, item.answer, item.id, item.line) for item in items] == [
        ("a", " b", "x", 1),
        ("c", " ü", "7", 3),
    ]
    assert items.name == str(path)


def test_a_line_separator_inside_a_text_is_no_new_line(write):
    assert len(load_items(write(json.dumps({"prompt": "a b", "answer": " b"}, ensure_ascii=False)))) == 1


def test_the_hash_is_of_the_content_whatever_the_spacing_and_the_id():
    assert Item("a  b\n", " c", "1", 1).hash == Item("a b", "c", None, 9).hash
    assert Item("a b", " c").hash != Item("a", " b c").hash
    assert Item("a b", " c").hash != Item("A b", " c").hash


@pytest.mark.parametrize(
    ("line", "says", "fix"),
    [
        ('{"prompt": "a"}', "no answer", 'add "answer"'),
        ('{"answer": "a"}', "no prompt", 'add "prompt"'),
        ('{"prompt": "a", "anser": "b"}', "unknown key 'anser'", "did you mean answer?"),
        ('{"prompt": "a", "answer": 3}', "answer must be text that is not blank, got 3", "write the answer"),
        ('{"prompt": " ", "answer": "b"}', "prompt must be text that is not blank", "write the prompt"),
        ('{"prompt": "a", "answer": "b", "id": [1]}', "id must be", "remove the id"),
        ("[1]", "expected a JSON object, got list", "write"),
        ('{"prompt": "a",', "not JSON", "one JSON object a line"),
    ],
)
def test_a_wrong_line_is_named(write, line, says, fix):
    path = write(lines(("good", " one")) + line + "\n")
    with pytest.raises(DataError) as caught:
        load_items(path)
    assert caught.value.message.startswith(f"{path}:2: {says}")
    assert fix in caught.value.fix


def test_an_item_twice_is_an_error(write):
    with pytest.raises(DataError, match=r":3: the same item as line 1"):
        load_items(write(lines(("a", " b"), ("c", " d"), ("a ", " b"))))


def test_files_that_cannot_be_used(write, tmp_path):
    with pytest.raises(DataError, match="holds no items"):
        load_items(write("\n\n"))
    with pytest.raises(DataError, match="No such file"):
        load_items(tmp_path / "nowhere.jsonl")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        load_items(tmp_path / "binary.jsonl")


def test_overlap_is_found_by_content(write):
    validation = load_items(write(lines(("a", " 1"), ("b", " 2"), ("c", " 3")), "validation.jsonl"))
    test = load_items(write(lines(("z", " 9"), ("c", "3"), ("b  ", " 2")), "test.jsonl"))
    with pytest.raises(DataError) as caught:
        disjoint(validation, test)
    assert "2 of its 3 items are also in" in caught.value.message
    assert "first line 2 (there line 3): 'b'" in caught.value.message
    disjoint(validation, Items("other", (Item("b", " 3"),)))


def test_the_digest_depends_on_order():
    one, other = Item("a", " b"), Item("c", " d")
    assert Items("x", (one, other)).digest == Items("y", (one, other)).digest
    assert Items("x", (one, other)).digest != Items("x", (other, one)).digest
