"""The tape: what leads back from a result to the leaves, and the pass over it.

A node holds gradient functions and its parents, not arrays: whatever no gradient function needs is
free as soon as the caller lets go of it, and the rest as soon as the pass back has used it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from operator import itemgetter
from typing import Any, NoReturn, Protocol

from gpukit.autograd.schedule import interleaved, run
from gpukit.core.blocks import within
from gpukit.device import Device
from gpukit.errors import GpukitError, TapeError

_recording: ContextVar[bool] = ContextVar("gpukit_recording", default=True)


def no_grad() -> AbstractContextManager[None]:
    """Within the block nothing is recorded, so nothing is kept for a backward pass."""
    return within(_recording, False)


def is_recording() -> bool:
    """Whether operations on tensors that require gradients are recorded here."""
    return _recording.get()


class Caller(Protocol):
    """A layer: what errors of the operations that it calls are named by."""

    def name_error(self, error: GpukitError) -> NoReturn:
        """Raise `error` again with the layer's name."""


caller: ContextVar[Caller | None] = ContextVar("gpukit_caller", default=None)
"""The layer that is computing; nodes made meanwhile name it when their gradients fail."""


class Watcher(Protocol):
    """Who is shown what a training step computes, as it comes about; perhaps by several threads."""

    def see(self, stage: str, place: int, what: str, array: Any) -> None:
        """`array` was made in `stage` ("forward", "backward" or "update") by `what`, in words.

        Places of a stage are in its order, the same in each step of a model.
        """


watcher: ContextVar[Watcher | None] = ContextVar("gpukit_watcher", default=None)


def watched_by(one: Watcher) -> AbstractContextManager[None]:
    """Within the block, `one` sees what training steps compute."""
    return within(watcher, one)


class Leaf(Protocol):
    """A tensor at which the tape ends: it takes gradients in, and counts changes of its values."""

    version: int

    @property
    def label(self) -> str:
        """What error messages call it."""

    @property
    def device(self) -> Device:
        """Where it and its gradient live."""

    def accumulate(self, grad: Any) -> None:
        """Add `grad` to the gradient held so far."""


class CopyBack:
    """The gradient function of a copy between devices: it does nothing else than copy back."""

    __slots__ = ("copy",)

    def __init__(self, copy: Callable[[Any], Any]) -> None:
        self.copy = copy

    def __call__(self, grad: Any) -> Any:
        return self.copy(grad)


class Node:
    """A step of the tape: how to turn the gradient of its result into those of its parents.

    A parent is the node that made an argument, the tensor itself where that is a leaf, or None
    where no gradient is wanted. `device` is where the result lives.
    """

    __slots__ = ("caller", "device", "gradients", "name", "parents", "versions")

    def __init__(
        self, name: str, device: Device, parents: tuple[Node | Leaf | None, ...], gradients: Any
    ) -> None:
        self.name = name
        self.device = device
        self.caller = caller.get()
        self.parents = parents
        self.gradients = gradients
        self.versions = [0 if p is None or isinstance(p, Node) else p.version for p in parents]

    def pull(self, grad: Any) -> Sequence[Any]:
        """Gradients of the parents (None where none is wanted), from the gradient of the result.

        An error names the layer that made the node, if one did.
        """
        try:
            return self._pull(grad)
        except GpukitError as error:
            if self.caller is None:
                raise
            self.caller.name_error(error)

    def _pull(self, grad: Any) -> Sequence[Any]:
        gradients = self.gradients
        if gradients is None:
            raise TapeError(
                f"backward passes {self.name} a second time, but its tape was freed by the first; "
                "run the forward pass again"
            )
        for parent, version in zip(self.parents, self.versions):
            if parent is None or isinstance(parent, Node):
                continue
            if parent.version != version:
                raise TapeError(
                    f"{parent.label} was changed between {self.name} and its backward pass; "
                    "call backward before the optimiser's step"
                )
        if callable(gradients):
            return gradients(grad)
        result: list[Any] = []
        for i, parent in enumerate(self.parents):
            if parent is None:
                result.append(None)
            elif gradients[i] is None:
                raise TapeError(f"{self.name} has no gradient for its argument {i + 1}")
            else:
                result.append(gradients[i](grad))
        return result

    @property
    def maker(self) -> str:
        """The layer that made the node, else the operation."""
        return getattr(self.caller, "label", self.name)

    def free(self) -> None:
        """Let go of the saved arrays and of the graph behind this node."""
        self.gradients = None
        self.caller = None
        self.parents = ()
        self.versions = []


def backward(root: Node | Leaf, grad: Any) -> None:
    """Carry `grad`, the gradient of what `root` made, back to every leaf, freeing the tape.

    Nodes of several CPU twins run concurrently; gradients are summed in the same order anyway.
    """
    order = _topological(root)
    device = root.device
    if any(node.device is not device for node in order):
        _on_several_devices(order, grad)
        return
    grads: dict[int, Any] = {id(root): grad}
    watch, nodes = watcher.get(), len(order)
    with device.current():
        while order:
            # Popped, so that nothing but the graph itself keeps a node alive once it is used.
            node = order.pop()
            grad = grads.pop(id(node), None)
            if grad is None:
                continue
            if not isinstance(node, Node):
                node.accumulate(grad)
                continue
            for parent, pulled in zip(node.parents, node.pull(grad)):
                if parent is None or pulled is None:
                    continue
                if watch is not None:
                    watch.see("backward", nodes - len(order), node.maker, pulled)
                before = grads.get(id(parent))
                grads[id(parent)] = pulled if before is None else before + pulled
            node.free()


def _on_several_devices(order: list[Node | Leaf], grad: Any) -> None:
    """`backward` over `order`, parents before children, where nodes live on several devices."""
    order.reverse()
    place = {id(node): i for i, node in enumerate(order)}
    readers: list[list[int]] = [[] for _ in order]
    for i, node in enumerate(order):
        if isinstance(node, Node):
            for parent in node.parents:
                if parent is not None:
                    readers[place[id(parent)]].append(i)
    turns = interleaved([node.device for node in order], readers)
    turn_of = {i: turn for turn, i in enumerate(turns)}
    # Gradients of each node, with the place in `order` of the node that they came from.
    arrived: list[list[tuple[int, Any]]] = [[] for _ in order]
    arrived[0].append((-1, grad))
    todo: list[Node | Leaf | None] = list(order)
    devices = [order[i].device for i in turns]
    needs = [[turn_of[reader] for reader in readers[i]] for i in turns]
    crossings = [turn for turn, i in enumerate(turns) if _only_copies(order[i])]
    order.clear()
    watch = watcher.get()

    def work(turn: int) -> None:
        i = turns[turn]
        node, todo[i] = todo[i], None
        terms, arrived[i] = arrived[i], []
        if node is None or not terms:
            return
        # The order of a pass over one device, whichever thread was first.
        terms.sort(key=itemgetter(0))
        total = terms[0][1]
        for _, term in terms[1:]:
            total = total + term
        del terms
        if not isinstance(node, Node):
            node.accumulate(total)
            return
        for parent, pulled in zip(node.parents, node.pull(total)):
            if parent is not None and pulled is not None:
                if watch is not None:
                    watch.see("backward", i, node.maker, pulled)
                arrived[place[id(parent)]].append((i, pulled))
        node.free()

    run(devices, needs, work, crossings)


def _only_copies(node: Node | Leaf) -> bool:
    return (
        isinstance(node, Node)
        and isinstance(node.gradients, tuple)
        and (isinstance(node.gradients[0], CopyBack))
    )


def _topological(root: Node | Leaf) -> list[Node | Leaf]:
    """Everything on the tape behind `root`, parents before children, without recursion."""
    order: list[Node | Leaf] = []
    seen: set[int] = set()
    stack: list[tuple[Node | Leaf, bool]] = [(root, False)]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            if isinstance(node, Node):
                stack.extend((p, False) for p in node.parents if p is not None)
    return order
