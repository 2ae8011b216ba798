"""Copies between two cards, against cards that do what they are told in any order they may.

A simulated card has streams: queues of work that is done later, in any order that the streams and
the events between them leave open. Freed memory is given out again at once, as CuPy's pool does for
work on one stream. So a wait that is missing shows as wrong numbers under some order.
"""

from __future__ import annotations

import ctypes
import random
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from gpukit import Tensor, ops
from gpukit.autograd import differentiable
from gpukit.device import device_of, transfer
from gpukit.graph.execution import Plan, Step, execute
from gpukit.layers import ToDevice

CROSSING = ToDevice("cpu")  # the layer of a step that only copies


class Stream:
    def __init__(self, cards, device, non_blocking=False):
        self.cards, self.device, self.non_blocking = cards, device, non_blocking
        self.queue = []
        self.ptr = len(cards.streams)
        cards.streams.append(self)

    def put(self, function, ready=lambda: True):
        self.queue.append((ready, function))

    def wait_event(self, event):
        place = event.place
        self.put(lambda: None, lambda: place is None or place["done"])


class Event:
    def __init__(self, cards, disable_timing=False):
        assert disable_timing, "an event that takes the time is slower"
        self.cards, self.device, self.place = cards, cards.current, None

    def record(self, stream):
        assert stream.device == self.device, "CUDA refuses events on a stream of another card"
        place = self.place = {"done": False}
        stream.put(lambda: place.update(done=True))

    @property
    def done(self):
        return self.place is None or self.place["done"]


class Memory:
    """`size` bytes of a card; the next array of this size gets them as soon as they are free."""

    def __init__(self, cards, device, size):
        self.shelf = cards.shelves.setdefault((device, size), [])
        self.block = self.shelf.pop() if self.shelf else np.zeros(max(size, 1), np.uint8)
        self.ptr = self.block.ctypes.data

    def __del__(self):
        self.shelf.append(self.block)


class CardArray:
    """What the code under test sees of a CuPy array; sums and products go to the card's stream."""

    def __init__(self, cards, device, shape, dtype=np.float32):
        self.cards, self.shape, self.dtype = cards, tuple(shape), np.dtype(dtype)
        self.device = SimpleNamespace(id=device)
        self.nbytes = int(np.prod(shape)) * self.dtype.itemsize
        self.data = Memory(cards, device, self.nbytes)
        self.size, self.ndim = int(np.prod(shape)), len(shape)
        self.__cuda_array_interface__ = {}

    def _now(self):
        """A function that gives the values at the time of its call, without holding the memory."""
        ptr, dtype, shape = self.data.ptr, self.dtype, self.shape
        memory = ctypes.c_char * self.nbytes
        return lambda: np.frombuffer(memory.from_address(ptr), dtype).reshape(shape)

    def computed(self, function, *others):
        """A new array on this card: function of the values of this one and of others."""
        assert self.cards.current == self.device.id, "computed on a card that is not current"
        assert all(o.device.id == self.device.id for o in others)
        result = CardArray(self.cards, self.device.id, self.shape, self.dtype)
        arguments, out = [a._now() for a in (self, *others)], result._now()

        def work():
            out()[...] = function(*(a() for a in arguments))

        self.cards.compute(self.device.id).put(work)
        return result

    def __add__(self, other):
        return self.computed(np.add, other)

    def times(self, factor):
        return self.computed(lambda x: x * np.float32(factor))


class Cards:
    """Two cards, and the part of CuPy that transfers use."""

    def __init__(self, peers=True):
        self.current, self.streams, self.shelves, self.log = 0, [], {}, []
        self._compute = {}
        cards = self

        class OnDevice:
            def __init__(self, index):
                self.index = index

            def __enter__(self):
                self.before, cards.current = cards.current, self.index

            def __exit__(self, *error):
                cards.current = self.before

        class RuntimeFailure(Exception):
            def __init__(self, status):
                self.status = status

        self.RuntimeFailure, self.enable_error = RuntimeFailure, None

        def enable(peer):
            cards.log.append(("enable", cards.current, peer))
            if cards.enable_error:
                raise RuntimeFailure(cards.enable_error)

        def move(target, source, size, stream):
            cards.streams[stream].put(lambda: ctypes.memmove(target, source, size))

        def peer(target, there, source, here, size, stream):
            cards.log.append(("peer", here, there, size))
            assert cards.streams[stream].device == here
            move(target, source, size, stream)

        def through(target, source, size, kind, stream):
            cards.log.append((kind, cards.streams[stream].device, size))
            move(target, source, size, stream)

        self.cuda = SimpleNamespace(
            Device=OnDevice,
            Event=lambda **settings: Event(cards, **settings),
            Stream=lambda **settings: Stream(cards, cards.current, **settings),
            get_current_stream=lambda: cards.compute(cards.current),
            alloc_pinned_memory=self._pinned,
            runtime=SimpleNamespace(
                deviceCanAccessPeer=lambda a, b: int(peers),
                deviceEnablePeerAccess=enable,
                CUDARuntimeError=RuntimeFailure,
                memcpyPeerAsync=peer,
                memcpyAsync=through,
                memcpyDeviceToHost="down",
                memcpyHostToDevice="up",
            ),
        )

    def _pinned(self, size):
        self.log.append(("pinned", size))
        block = np.zeros(size, np.uint8)
        return SimpleNamespace(ptr=block.ctypes.data, block=block)

    def compute(self, device):
        if device not in self._compute:
            self._compute[device] = Stream(self, device)
        return self._compute[device]

    def ascontiguousarray(self, x):
        return x

    def empty(self, shape, dtype):
        return CardArray(self, self.current, shape, dtype)

    def array(self, device, values):
        """An array whose values are computed on the card, later."""
        values = np.asarray(values, np.float32)
        with self.cuda.Device(device):
            return CardArray(self, device, values.shape).computed(lambda _: values)

    def drain(self, dice, blocked=()):
        """Do all work that can be done, in a random order; streams in `blocked` stand still."""
        while True:
            able = [s for s in self.streams if s.queue and s not in blocked and s.queue[0][0]()]
            if not able:
                return
            dice.choice(able).queue.pop(0)[1]()

    def values(self, x, dice):
        self.drain(dice)
        return x._now()().copy()


@pytest.fixture(params=["peers", "through the host"])
def cards(request, monkeypatch):
    made = Cards(request.param == "peers")
    monkeypatch.setitem(sys.modules, "cupy", made)
    monkeypatch.setattr(transfer, "_made", [])
    monkeypatch.setattr(transfer, "STAGE", 64)
    return made


def place(cards, index):
    return device_of(CardArray(cards, index, (1,)))


def cross_often(cards, ways):
    """Sources are let go at once and their memory written again; so is that of copies once read."""
    for seed in range(60):
        dice = random.Random(seed)
        results = []
        for number in range(5):
            for a, b in ways:
                x = cards.array(a, np.arange(45) + number)
                y = place(cards, b).receive(x)
                with cards.cuda.Device(b):
                    results.append((y.times(2), 2 * (np.arange(45) + number)))
                del x, y
                cards.array(a, np.full(45, np.nan))
                cards.array(b, np.full(45, np.nan))
        cards.drain(dice)
        for result, expected in results:
            np.testing.assert_array_equal(result._now()(), expected)


def test_values_cross_whatever_the_order_and_freed_memory_is_safe(cards):
    cross_often(cards, [(0, 1), (1, 0)])


# Who waits for an event of whom, in a copy from card 0 to card 1: (computing or copying, card).
WAITS = {
    "peers": {
        "source made": (("copy", 0), ("compute", 0)),
        "memory free": (("copy", 0), ("compute", 1)),
        "arrived": (("compute", 1), ("copy", 0)),
    },
    "through the host": {
        "source made": (("copy", 0), ("compute", 0)),
        "memory free": (("copy", 1), ("compute", 1)),
        "stage filled": (("copy", 1), ("copy", 0)),
        "stage emptied": (("copy", 0), ("copy", 1)),
        "arrived": (("compute", 1), ("copy", 1)),
    },
}


@pytest.mark.parametrize(
    ("cards", "omitted"),
    [(kind, who) for kind, waits in WAITS.items() for who in waits.values()],
    ids=[f"{kind}: {name}" for kind, waits in WAITS.items() for name in waits],
    indirect=["cards"],
)
def test_without_one_of_the_waits_values_are_wrong_in_some_order(cards, monkeypatch, omitted):
    wait, record, dropped = Stream.wait_event, Event.record, []

    def who(stream):
        return "compute" if stream in cards._compute.values() else "copy", stream.device

    def recording(event, stream):
        event.recorded_by = who(stream)
        record(event, stream)

    def waiting(stream, event):
        if (who(stream), event.recorded_by) == omitted:
            dropped.append(event)
        else:
            wait(stream, event)

    monkeypatch.setattr(Event, "record", recording)
    monkeypatch.setattr(Stream, "wait_event", waiting)
    with pytest.raises(AssertionError, match="not equal"):
        cross_often(cards, [(0, 1)])
    assert dropped


def test_peers_copy_directly_after_access_was_enabled_once(cards):
    for _ in range(3):
        place(cards, 1).receive(cards.array(0, np.zeros(45)))
        place(cards, 0).receive(cards.array(1, np.zeros(45)))
    if cards.cuda.runtime.deviceCanAccessPeer(0, 1):
        assert cards.log == [
            ("enable", 0, 1), ("peer", 0, 1, 180), ("enable", 1, 0), ("peer", 1, 0, 180),
            *[("peer", 0, 1, 180), ("peer", 1, 0, 180)] * 2,
        ]  # fmt: skip
    else:
        # 180 bytes in stages of 64, through two buffers for each direction.
        there = [("down", 0, 64), ("up", 1, 64)] * 2 + [("down", 0, 52), ("up", 1, 52)]
        back = [("down", 1, 64), ("up", 0, 64)] * 2 + [("down", 1, 52), ("up", 0, 52)]
        pinned = [("pinned", 64)] * 2
        assert cards.log == pinned + there + pinned + back + (there + back) * 2
    copying = [s for s in cards.streams if s not in cards._compute.values()]
    assert copying and all(s.non_blocking for s in copying)


@pytest.mark.parametrize("cards", ["peers"], indirect=True)
@pytest.mark.parametrize("status", [704, 1])
def test_access_that_something_else_enabled_is_no_error(cards, status):
    cards.enable_error = status
    x, there = cards.array(0, np.arange(45)), place(cards, 1)
    if status == 704:
        y = there.receive(x)
        np.testing.assert_array_equal(cards.values(y, random.Random(0)), np.arange(45))
    else:
        with pytest.raises(cards.RuntimeFailure):
            there.receive(x)


def test_the_source_computes_on_and_so_does_the_target_up_to_what_reads_the_copy(cards):
    here, there = place(cards, 0), place(cards, 1)
    done = []

    def on_card(name):
        def call(x, training):
            return x.computed(lambda v: (done.append(name), v)[1])

        return call

    def cross(x, training):
        return ops.to_device(x, there)

    steps = [
        Step(0, (-1,), None, on_card("a"), here),
        Step(1, (0,), CROSSING, cross, there),
        Step(2, (0,), None, on_card("a needs no copy"), here),
        Step(
            3, (-1,), None, lambda _, training: on_card("b needs no copy")(other, training), there
        ),
        Step(4, (1,), None, on_card("b reads the copy"), there),
    ]
    other = cards.array(1, np.ones(45))
    x = cards.array(0, np.zeros(45))
    copying = lambda: [s for s in cards.streams if s not in cards._compute.values()]  # noqa: E731
    result = execute(Plan(steps), x, None)
    cards.drain(random.Random(0), blocked=copying())
    assert sorted(done) == ["a", "a needs no copy", "b needs no copy"]
    cards.drain(random.Random(0))
    assert done[-1] == "b reads the copy"
    np.testing.assert_array_equal(result._now()(), np.zeros(45))


def test_what_does_more_than_copy_waits_for_its_own_copies(cards):
    """A step, and a gradient function, that go on computing with what they copied."""
    here, there = place(cards, 0), place(cards, 1)

    @differentiable
    def moved_and_doubled(x):
        def back(g):
            moved = ops.to_device(g, here)
            with here.current():
                return moved.times(2)

        moved = ops.to_device(x, there)
        return moved.times(2), (back,)

    plan = Plan(
        [
            Step(0, (-1,), None, lambda x, _: scaled(x, factor=3), here),
            Step(1, (0,), None, lambda x, _: moved_and_doubled(x), there),
        ]
    )
    for seed in range(40):
        x = Tensor.wrap(cards.array(0, np.arange(45)))
        x._leaf = True
        y = execute(plan, x, None)
        y.backward(Tensor.wrap(cards.array(1, np.ones(45))))
        result, gradient = y.array, x.grad.array
        cards.drain(random.Random(seed))
        np.testing.assert_array_equal(result._now()(), np.arange(45) * 6)
        np.testing.assert_array_equal(gradient._now()(), np.full(45, 6))


def test_outside_a_pass_everything_told_later_waits(cards):
    there, done = place(cards, 1), []
    y = ops.to_device(cards.array(0, np.zeros(45)), there)
    other = cards.array(1, np.ones(45))
    with there.current():
        other.computed(lambda v: (done.append("later"), v)[1])
    cards.drain(random.Random(0), [s for s in cards.streams if s not in cards._compute.values()])
    assert not done
    cards.drain(random.Random(0))
    assert done and device_of(y) is there


@differentiable
def scaled(x, *, factor):
    return x.times(factor), (lambda g: g.times(factor),)


@differentiable
def total(x, y):
    return x + y, (lambda g: g.times(1), lambda g: g.times(1))


def test_two_columns_forward_and_back_whatever_the_order(cards):
    """x → a: ·2 ·3; b: ·5 ·7; exchange; each adds both; a: ·11, b: ·13; b → a; sum."""
    here, there = place(cards, 0), place(cards, 1)
    graph = [
        ((-1,), lambda x, _: scaled(x, factor=2), here),
        ((0,), lambda x, _: scaled(x, factor=3), here),
        ((-1,), lambda x, _: ops.to_device(x, there), there),
        ((2,), lambda x, _: scaled(x, factor=5), there),
        ((3,), lambda x, _: scaled(x, factor=7), there),
        ((1,), lambda x, _: ops.to_device(x, there), there),
        ((4,), lambda x, _: ops.to_device(x, here), here),
        ((1, 6), lambda x, _: total(*x), here),
        ((5, 4), lambda x, _: total(*x), there),
        ((7,), lambda x, _: scaled(x, factor=11), here),
        ((8,), lambda x, _: scaled(x, factor=13), there),
        ((10,), lambda x, _: ops.to_device(x, here), here),
        ((9, 11), lambda x, _: total(*x), here),
    ]
    crosses = {2, 5, 6, 11}
    plan = Plan(
        [
            Step(i, inputs, CROSSING if i in crosses else None, call, device)
            for i, (inputs, call, device) in enumerate(graph)
        ]
    )
    assert [s.node for s in plan.steps] != list(range(13))
    factor = (6 + 35) * 11 + (6 + 35) * 13
    for seed in range(40):
        dice = random.Random(seed)
        x = Tensor.wrap(cards.array(0, np.arange(45)))
        x._leaf = True
        y = execute(plan, x, None)
        # What is computed on the way is let go, and its memory used again, before it is computed.
        y.backward(Tensor.wrap(cards.array(0, np.ones(45))))
        result, gradient = y.array, x.grad.array
        cards.drain(dice)
        np.testing.assert_array_equal(result._now()(), np.arange(45) * factor)
        np.testing.assert_array_equal(gradient._now()(), np.full(45, factor))


def test_empty_arrays_cross(cards):
    y = place(cards, 1).receive(CardArray(cards, 0, (0, 3)))
    assert y.shape == (0, 3) and device_of(y) is place(cards, 1)
    assert not any(entry[0] in ("peer", "down", "up") for entry in cards.log)


def test_sources_are_let_go_once_they_are_copied(cards):
    there = place(cards, 1)
    for _ in range(10):
        there.receive(cards.array(0, np.zeros(45)))
        cards.drain(random.Random(0))
    assert len(transfer._transfers().sources) == 1
