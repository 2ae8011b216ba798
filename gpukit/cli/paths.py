"""Names of files and folders as options take them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


class _Named(click.Path):
    """A path, never the empty one, which would be the folder at hand."""

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> Any:
        if value in ("", b""):
            self.fail("it is empty; name a file or folder", parameter, context)
        return super().convert(value, parameter, context)


PATH = _Named(path_type=Path)
