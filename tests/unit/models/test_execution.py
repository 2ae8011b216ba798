"""Plans of models on two devices, and carrying them out: overlap, bits, context, errors, memory."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
from alexnets import FORMS, loss_and_gradients, narrow, samples

from gpukit import Tensor, no_grad, ops
from gpukit.autograd import differentiable, is_recording
from gpukit.autograd import schedule as columns
from gpukit.backends.cpu.runtime import threads
from gpukit.core.settings import is_strict, is_training, strict, training_mode
from gpukit.device import get_device, to_host
from gpukit.graph.execution import execute
from gpukit.layers import Add, Dense, Input, ReLU, ToDevice
from gpukit.models import Model

WAIT = 20  # seconds after which a test that hangs fails


@pytest.fixture(autouse=True)
def pool(monkeypatch):
    monkeypatch.setattr(threads, "_pool", threads.ThreadPool(2))


def one_after_the_other(devices, needs, work, crossings=()):
    for i in range(len(devices)):
        work(i)


class Both(ReLU):
    """Calls `forward()` in the pass forward, `back()` in the pass back; else the identity."""

    def __init__(self, forward=None, back=None, **settings):
        super().__init__(**settings)
        self.forward, self.back = forward, back

    def call(self, inputs, training):
        if self.forward:
            self.forward()

        @differentiable
        def identity(x):
            def gradient(g):
                if self.back:
                    self.back()
                return g

            return x, (gradient,)

        return identity(inputs)


def two_columns(a=None, b=None, device="cpu:1"):
    """x → column on cpu, column on `device` → their sum; `a` and `b` are layers in the middle."""
    x = Input((3,))
    left = Dense(4, name="left")(x)
    right = Dense(4, name="right")(ToDevice(device)(x))
    left = a(left) if a else left
    right = b(right) if b else right
    return Model(x, Add()([left, ToDevice("cpu")(right)]), device="cpu", seed=1)


def test_columns_meet_forward_and_back():
    there, back = threading.Barrier(2, timeout=WAIT), threading.Barrier(2, timeout=WAIT)
    model = two_columns(Both(there.wait, back.wait), Both(there.wait, back.wait))
    y = model(Tensor(np.ones((2, 3), np.float32)))
    y.sum().backward()
    for layer in ("left", "right"):
        np.testing.assert_array_equal(
            model.get_layer(layer).kernel.grad.numpy(), np.full((3, 4), 2)
        )


def test_without_threads_columns_do_not_meet(monkeypatch):
    """So the barriers of the test above do show an overlap."""
    monkeypatch.setattr("gpukit.graph.execution.run", one_after_the_other)
    there = threading.Barrier(2, timeout=0.1)
    with pytest.raises(threading.BrokenBarrierError):
        two_columns(Both(there.wait), Both(there.wait))(np.ones((2, 3), np.float32))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bits_are_those_of_one_step_after_the_other(monkeypatch, dtype):
    x, y = samples(dtype)
    twins = narrow(dtype, **FORMS["twins"])
    runs = [loss_and_gradients(twins, x, y) for _ in range(3)]
    for threads_ in (1, 3, 5):
        monkeypatch.setattr(threads, "_pool", threads.ThreadPool(threads_))
        runs.append(loss_and_gradients(twins, x, y))
    runs.append(loss_and_gradients(narrow(dtype, **FORMS["one device"]), x, y))
    monkeypatch.setattr("gpukit.graph.execution.run", one_after_the_other)
    monkeypatch.setattr(columns, "run", one_after_the_other)
    runs.append(loss_and_gradients(twins, x, y))
    for other in runs[1:]:
        for name, array in runs[0].items():
            assert other[name].tobytes() == array.tobytes(), name


def test_gradients_of_many_readers_are_summed_in_one_order_whoever_is_first():
    """1 + 1e8 - 1e8 is 0 or 1 by the order; one of the readers, on both devices, is slow."""
    results = set()
    for slow in range(4):
        finished = threading.Event()

        @differentiable
        def reader(x, *, scale, number, slow=slow, finished=finished):
            def gradient(g):
                if number == slow:
                    finished.wait(0.05)
                return g * np.float32(scale)

            return x * np.float32(scale), (gradient,)

        x = Tensor(np.ones(1, np.float32), requires_grad=True)
        shared = x * 1.0
        parts = []
        for number, scale in enumerate((1, 1e8, -1e8, 3)):
            device = ("cpu", "cpu:1")[number % 2]
            part = reader(ops.to_device(shared, device), scale=scale, number=number)
            parts.append(ops.to_device(part, "cpu"))
        (((parts[0] + parts[1]) + parts[2]) + parts[3]).sum().backward()
        results.add(x.grad.numpy().tobytes())
    assert len(results) == 1


def test_modes_of_the_caller_hold_in_every_column():
    seen = []

    def look():
        seen.append((is_training(), is_recording(), is_strict(), threading.get_ident()))

    model = two_columns(Both(look), Both(look))
    x = Tensor(np.ones((2, 3), np.float32))
    with training_mode(), strict():
        model(x)
    with no_grad():
        model(x)
    assert [modes[:3] for modes in seen] == [(True, True, True)] * 2 + [(False, False, False)] * 2
    assert len({ident for *_, ident in seen}) == 2


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("back", [False, True])
def test_an_error_in_a_column_is_raised_as_itself(side, back):
    class Mine(Exception):
        pass

    def fail():
        raise Mine

    broken = Both(None, fail) if back else Both(fail)
    model = two_columns(*[(broken, Both()), (Both(), broken)][side])
    x = Tensor(np.ones((2, 3), np.float32))
    with pytest.raises(Mine):
        model(x).sum().backward()
    model = two_columns()
    model(x).sum().backward()


def test_a_parameter_changed_before_backward_is_an_error_in_its_column():
    model = two_columns()
    y = model(Tensor(np.ones((2, 3), np.float32), requires_grad=True)).sum()
    right = model.get_layer("right").kernel
    right.assign(np.zeros((3, 4), np.float32))
    with pytest.raises(Exception, match="'right/kernel' was changed between dense and"):
        y.backward()


def test_a_second_pass_back_says_that_the_tape_is_freed():
    y = two_columns()(Tensor(np.ones((2, 3), np.float32))).sum()
    y.backward()
    with pytest.raises(Exception, match="freed"):
        y.backward()


def test_values_that_nobody_reads_are_let_go_in_both_columns():
    kept: dict[int, list[int]] = {}
    seen: dict[int, list[weakref.ref]] = {}

    class Watch(ReLU):
        def call(self, inputs, training):
            here = threading.get_ident()
            mine = seen.setdefault(here, [])
            kept.setdefault(here, []).append(sum(ref() is not None for ref in mine))
            outputs = super().call(inputs, training)
            mine.append(weakref.ref(outputs))
            return outputs

    x = Input((3,))
    a, b = x, ToDevice("cpu:1")(x)
    for _ in range(6):
        a, b = Watch()(a), Watch()(b)
    model = Model(x, Add()([a, ToDevice("cpu")(b)]), device="cpu")
    with no_grad():
        model(Tensor(np.ones((2, 3), np.float32)))
    assert [max(counts) for counts in kept.values()] == [1, 1], "only the input may be alive"


def test_backward_frees_as_it_goes_in_both_columns():
    alive: dict[str, list[int]] = {}
    saved: dict[str, list[weakref.ref]] = {"cpu": [], "cpu:1": []}

    @differentiable
    def probe(x, *, name):
        array = np.copy(x)
        saved[name].append(weakref.ref(to_host(array)))

        def gradient(g):
            alive.setdefault(name, []).append(sum(ref() is not None for ref in saved[name]))
            return g * array

        return x + 0, (gradient,)

    x = Tensor(np.ones(4, np.float32), requires_grad=True)
    ends = []
    for name in ("cpu", "cpu:1"):
        y = ops.to_device(x, name)
        for _ in range(4):
            y = probe(y, name=name)
        ends.append(ops.to_device(y, "cpu"))
    del y
    total = (ends[0] + ends[1]).sum()
    del ends
    gc.disable()
    try:
        total.backward()
        assert alive == {"cpu": [4, 3, 2, 1], "cpu:1": [4, 3, 2, 1]}
        assert all(ref() is None for refs in saved.values() for ref in refs)
    finally:
        gc.enable()


def test_nothing_is_kept_after_a_step(monkeypatch):
    model = two_columns()
    watched = []
    call = ReLU.call

    def watching(self, inputs, training):
        outputs = call(self, inputs, training)
        watched.append(weakref.ref(outputs))
        return outputs

    monkeypatch.setattr(ReLU, "call", watching)
    model = two_columns(ReLU(), ReLU())
    gc.collect()
    gc.disable()
    try:
        model(Tensor(np.ones((2, 3), np.float32))).sum().backward()
        assert len(watched) == 2 and all(ref() is None for ref in watched)
    finally:
        gc.enable()


def test_steps_of_two_cards_alternate():
    """So that launches reach both cards early: neither has two steps while the other could go."""
    model = narrow(devices=("emu:0", "emu:1"))
    steps = model.plan().steps
    assert sorted(s.node for s in steps) == sorted({s.node for s in steps})
    names = [s.layer.name for s in steps]
    before = steps[: names.index("conv2b") + 1]  # the image's way to the second card included
    assert [s.device.index for s in before] == [0, 1] * (len(before) // 2)
    made: set[int] = {-1}
    for step in steps:
        assert made.issuperset(step.inputs)
        made.add(step.node)
    again = narrow(devices=("emu:0", "emu:1")).plan().steps
    assert [s.node for s in again] == [s.node for s in steps]


def test_the_tape_of_two_cards_is_passed_by_turns():
    order = []

    @differentiable
    def probe(x, *, name):
        return x + 0, (lambda g: (order.append(name), g)[1],)

    x = Tensor(np.ones(4, np.float32), requires_grad=True)
    ends = []
    for name in ("emu:0", "emu:1"):
        y = ops.to_device(x, name)
        for i in range(3):
            y = probe(y, name=f"{name} {i}")
        ends.append(ops.to_device(y, "emu:0"))
    (ends[0] + ends[1]).sum().backward()
    assert len(order) == 6
    assert order.index("emu:1 2") < order.index("emu:0 0")
    assert order.index("emu:0 2") < order.index("emu:1 0")


def test_a_chain_has_the_same_kind_of_plan():
    from gpukit.models import Sequential

    model = Sequential([Dense(4, input_shape=(3,)), Dense(2, activation="softmax")], device="cpu:1")
    plan = model.plan(logits=True)
    assert [(s.node, s.inputs, s.device) for s in plan.steps] == [
        (0, (-1,), get_device("cpu:1")),
        (1, (0,), get_device("cpu:1")),
    ]
    x = get_device("cpu:1").asarray(np.ones((2, 3), np.float32))
    logits = execute(plan, x, None).numpy()
    np.testing.assert_array_equal(ops.softmax(logits), model(x).numpy())


def test_layers_added_later_are_part_of_the_plan():
    from gpukit.models import Sequential

    model = Sequential([Dense(4, input_shape=(3,))])
    assert model(np.ones((2, 3), np.float32)).shape == (2, 4)
    model.add(Dense(5))
    assert model(np.ones((2, 3), np.float32)).shape == (2, 5)
