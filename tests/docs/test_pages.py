"""What the README and the docs tell people to do, done; and that they speak of what there is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def shorter(text: str) -> str:
    """The same search with a few trials: what it finds is the benchmarks' matter."""
    text, count = re.subn(r"(budget\"?: )\d+", r"\g<1>9000", text)
    assert count
    return text


def mergery(command: str, folder: Path) -> str:
    arguments = [sys.executable, "-m", "mergery", *command.partition("#")[0].split()[1:]]
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readme_from_top_to_bottom(tmp_path):
    for text in blocks("README.md", "yaml"):
        name = re.match(r"# (\w+\.yml)", text)[1]
        (tmp_path / name).write_text(shorter(text) if "trials" in text else text)
    commands = [line for text in blocks("README.md", "sh") for line in text.splitlines()]
    for command in commands:
        if command.startswith("mergery"):
            mergery(command, tmp_path)
    assert (tmp_path / "merged" / "model.safetensors").exists()
    assert (tmp_path / "evolved" / "model" / "model.safetensors").exists()
    assert [line.split()[1] for line in commands if line.startswith("make")] == ["demo", "test"]


def test_the_readmes_python(tmp_path):
    (text,) = blocks("README.md", "python")
    statements = [line for line in text.splitlines() if line and not line.startswith(("import", "from"))]
    assert len(statements) <= 10
    done = subprocess.run(
        [sys.executable, "-c", shorter(text)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "merge_method: task_arithmetic" in done.stdout
    assert (tmp_path / "bred" / "best.yml").exists()


def test_the_error_that_the_readme_quotes(tmp_path):
    (recipe,) = (text for text in blocks("README.md", "yaml") if "recipe.yml" in text)
    (tmp_path / "recipe.yml").write_text(recipe.replace("density", "densty", 1))
    done = subprocess.run(
        [sys.executable, "-m", "mergery", "plan", "recipe.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.strip() in (ROOT / "README.md").read_text()


def test_the_searches_of_the_docs_are_searches():
    import yaml

    from mergery.evolve import SearchSpec

    for page in ("docs/search.md", "docs/paths.md"):
        for text in blocks(page, "yaml"):
            assert SearchSpec.from_dict(yaml.safe_load(text)).search.budget > 0


def test_the_recipes_of_the_docs_are_recipes():
    from mergery import Recipe

    texts = blocks("docs/recipes.md", "yaml")
    first, *_ = [Recipe.from_yaml(text) for text in texts]
    assert first.merge_method == "ties"


def test_the_mistakes_that_the_docs_quote(tmp_path):
    (quoted,) = blocks("docs/recipes.md", "text")
    recipe = blocks("docs/recipes.md", "yaml")[0].replace("density", "densty") + "chat_template: chatlm\n"
    (tmp_path / "recipe.yml").write_text(recipe)
    command = [sys.executable, "-m", "mergery", "check", "recipe.yml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, quoted)


def test_the_pages_made_from_the_code_are_as_the_code_is():
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "pages.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target
