"""What README, CONTRIBUTING and docs point at is there: pages, files, tests."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import rooms
from sources import CHECKOUT

DOCS = CHECKOUT / "docs"
PAGES = [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *sorted(DOCS.glob("**/*.md"))]
EACH_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)

# A path in backquotes that begins in one of these folders, perhaps with ::a_test behind it.
PATH = re.compile(r"`((?:gpukit|tests|docs|docker|bench|kernels|\.ci)/[\w./-]*)(::\w+)?`")
NAMED_AFTER = re.compile(r"`(tests/[\w./-]+\.py)(?:::(\w+))?`|`::(\w+)`")


@EACH_PAGE
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    local = [t for t in targets if not re.match(r"[a-z]+:", t)]
    assert [t for t in local if not (page.parent / t).exists()] == []


@EACH_PAGE
def test_named_files_exist(page):
    names = {match[1] for match in PATH.finditer(page.read_text(encoding="utf-8"))}
    assert [name for name in sorted(names) if not (CHECKOUT / name).exists()] == []


@EACH_PAGE
def test_named_tests_exist(page):
    """`tests/a/test_b.py::test_c`, and `::test_d` after it in the same file."""
    missing = []
    file = ""
    for match in NAMED_AFTER.finditer(page.read_text(encoding="utf-8")):
        file = match[1] or file
        test = match[2] or match[3]
        if test and test not in functions(CHECKOUT / file):
            missing.append(f"{file}::{test}")
    assert missing == []


def test_every_page_is_in_the_site():
    navigation = (DOCS / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    assert set(re.findall(r": (\S+\.md)$", navigation, re.MULTILINE)) == {
        page.relative_to(DOCS).as_posix() for page in DOCS.glob("**/*.md")
    }


def test_the_design_page_lists_the_rooms_as_they_are():
    text = rooms.PAGE.read_text(encoding="utf-8")
    assert text == rooms.page(text), "python tests/null/rooms.py"


def functions(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
