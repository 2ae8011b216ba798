"""Writes the list of rooms into docs/design.md: `python tests/null/rooms.py`.

The rooms and their order are those of HOUSE (test_arrows.py), what each is for is the first line of
its docstring.
"""

from __future__ import annotations

import ast

from sources import CHECKOUT, modules
from test_arrows import HOUSE

PAGE = CHECKOUT / "docs" / "design.md"
BEGIN, END = "<!-- rooms: written by tests/null/rooms.py -->\n", "<!-- end of rooms -->\n"


def table() -> str:
    """A row a room, from the ground up: its path and its docstring's first line."""
    docs = {m.name: (m.path, (ast.get_docstring(m.tree) or "").split("\n")[0]) for m in modules()}
    rows = ["| room | what it is for |", "|---|---|"]
    for room in HOUSE:
        path, purpose = docs[room]
        folder = room + "/" * (path.name == "__init__.py")
        rows.append(f"| `{folder}` | {purpose.removesuffix('.')} |")
    return "\n".join(rows) + "\n"


def page(text: str) -> str:
    """The design page with the list as it is now."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
