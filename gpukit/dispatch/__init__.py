"""Primitives with many implementations, one of which is chosen by where the arrays live.

`gpukit/__init__.py`, which alone knows the rooms above this one, says here what brings
implementations. `import gpukit` loads this file, so it loads nothing itself, not even typing.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

loaders: "dict[str, Callable[[], object]]" = {}  # import those for a kind of device
searches: "list[Callable[[str], object]]" = []  # register the one of a name that is not there
