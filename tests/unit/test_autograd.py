"""The tape: gradients, fan-out, what is freed when, and what is refused."""

import copy
import gc
import pickle
import threading
import weakref

import numpy as np
import pytest

import gpukit
from gpukit import Tensor, no_grad, ops
from gpukit.autograd import Parameter, differentiable
from gpukit.errors import DTypeError, ShapeError, TapeError


def leaf(*values: float) -> Tensor:
    return Tensor(np.array(values, np.float64), requires_grad=True)


def test_worked_example_of_the_notes() -> None:
    """exp(xy) + y along x = cos t, y = t²: df/dt = y e^xy · (−sin t) + (1 + x e^xy) · 2t."""
    t0 = 0.7
    t = leaf(t0)
    # cos t as a function with a gradient of its own, as a user would write it
    cos = differentiable(lambda x: (np.cos(x), (lambda g: -np.sin(x) * g,)))
    x, y = cos(t), t * t
    (ops.exp(x * y) + y).sum().backward()
    xv, yv = np.cos(t0), t0**2
    e = np.exp(xv * yv)
    assert t.grad.item() == pytest.approx(yv * e * -np.sin(t0) + (1 + xv * e) * 2 * t0, rel=1e-14)


def test_logistic_least_squares_with_penalty() -> None:
    w, b, x, t, lam = leaf(0.3), leaf(-0.2), 1.7, 0.4, 0.05
    y = ops.sigmoid(w * x + b)
    loss = 0.5 * (y - t) ** 2 + lam * 0.5 * w**2
    loss.sum().backward()
    s = 1 / (1 + np.exp(-(0.3 * x - 0.2)))
    z_bar = (s - t) * s * (1 - s)
    assert w.grad.item() == pytest.approx(z_bar * x + lam * 0.3, rel=1e-14)
    assert b.grad.item() == pytest.approx(z_bar, rel=1e-14)


def test_fan_out_sums_gradients() -> None:
    x = leaf(2.0, 3.0)
    y = x * x
    (y + y * x + x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * x.numpy() + 3 * x.numpy() ** 2 + 1)


def test_grad_accumulates_until_zeroed() -> None:
    x = leaf(1.0, 2.0)
    (x * 3).sum().backward()
    (x * 3).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [6, 6])
    x.zero_grad()
    assert x.grad is None


def test_backward_needs_a_scalar_or_a_gradient() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(ShapeError, match="needs a gradient of that shape"):
        (x * 2).backward()
    (x * 2).backward(np.array([1.0, 10.0]))
    np.testing.assert_array_equal(x.grad.numpy(), [2, 20])
    with pytest.raises(ShapeError, match="was given a gradient"):
        (x * 2).backward(np.ones(3))


def test_second_backward_says_that_the_tape_is_freed() -> None:
    x = leaf(1.0)
    y = ops.exp(x)
    z = (y * 2).sum()
    z.backward()
    with pytest.raises(TapeError, match="freed"):
        z.backward()
    with pytest.raises(TapeError, match="exp"):
        (y * 3).sum().backward()


def test_backward_without_gradients_says_how_to_ask_for_them() -> None:
    with pytest.raises(TapeError, match="requires_grad=True"):
        Tensor([1.0]).backward()


def test_a_missing_gradient_names_the_function() -> None:
    floor = differentiable(lambda x: (np.floor(x), (None,)))
    floor.__wrapped__.__name__ = "floor"
    with pytest.raises(TapeError, match="has no gradient for its argument 1"):
        floor(leaf(1.5)).sum().backward()


def test_no_grad_records_nothing() -> None:
    x = leaf(1.0)
    with no_grad():
        y = x * 2
    assert not y.requires_grad
    assert (x * 2).requires_grad


def test_no_grad_is_of_the_context_not_the_process() -> None:
    seen = []
    with no_grad():
        worker = threading.Thread(target=lambda: seen.append((leaf(1.0) * 2).requires_grad))
        worker.start()
        worker.join()
    assert seen == [True]


def test_arrays_handed_out_are_read_only() -> None:
    x = leaf(1.0, 2.0)
    y = ops.exp(x)
    for array in (x.numpy(), x.array, y.numpy()):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 5


def test_later_writes_do_not_reach_the_tape() -> None:
    values = np.array([1.0, 2.0])
    x, factor = Tensor(values, requires_grad=True), np.array([3.0, 4.0])
    y = (x * factor).sum()
    values[:] = 0
    factor[:] = 0
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [3, 4])


def test_a_parameter_changed_before_backward_is_an_error() -> None:
    w = Parameter(np.array([2.0, 3.0]), "layer/kernel")
    loss = (w * w).sum()
    w.assign(np.array([0.0, 0.0]))
    with pytest.raises(TapeError, match="'layer/kernel' was changed"):
        loss.backward()


def test_intermediates_are_freed_as_soon_as_nothing_needs_them() -> None:
    """relu's gradient needs its output only: its input goes when the caller lets it go."""
    x = leaf(*range(10))
    doubled = x * 2
    watch = weakref.ref(doubled)
    y = ops.relu(doubled)
    del doubled
    assert watch() is None
    y.sum().backward()


def test_backward_frees_as_it_goes() -> None:
    x = leaf(*range(10))
    watched: list = []

    @differentiable
    def probe(x):  # type: ignore[no-untyped-def]
        saved = x.copy()
        watched.append(weakref.ref(saved))
        # When this gradient runs, all that came after it on the tape must be gone already.
        alive = list(watched)
        return x + 0, (lambda g: (order.append([w() is not None for w in alive]), g * saved)[1],)

    order: list = []
    y = x
    for _ in range(3):
        y = probe(y)
    y.sum().backward()
    gc.disable()
    try:
        assert order == [[True, True, True], [True, True], [True]]
        assert [w() is None for w in watched] == [True, True, True]
    finally:
        gc.enable()


def test_deep_chains_need_no_recursion() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(20_000):
        y = y + 0.0
    y.sum().backward()
    assert x.grad.item() == 1


@pytest.mark.parametrize("other", [2, 2.5, np.float32(2.5), np.sqrt(np.float64(2))])
def test_scalars_never_promote(other: object) -> None:
    x = Tensor(np.ones(3, np.float32), requires_grad=True)
    assert (x * other).dtype == np.float32
    assert (other * x).dtype == np.float32
    assert (x + other).sum().dtype == np.float32


def test_two_float_types_in_one_operation_are_refused() -> None:
    with pytest.raises(DTypeError, match=r"float64.*float32.*cast one"):
        Tensor(np.ones(3, np.float32)) + np.ones(3)


def test_integers_are_refused_with_the_cast_to_use() -> None:
    with pytest.raises(DTypeError, match=r"astype\(np.float32\)"):
        ops.relu(np.arange(3))
    with pytest.raises(DTypeError, match=r"only floating tensors"):
        Tensor(np.arange(3), requires_grad=True)


def test_arrays_in_array_out_tensors_in_tensor_out() -> None:
    assert isinstance(ops.relu(np.ones(3)), np.ndarray)
    assert isinstance(ops.relu(Tensor(np.ones(3))), Tensor)
    assert isinstance(ops.add(np.ones(3), Tensor(np.ones(3))), Tensor)
    assert isinstance(np.ones(3) * Tensor(np.ones(3)), Tensor)


def test_array_arguments_may_be_named() -> None:
    x, w, b = np.ones((1, 2)), np.ones((2, 3)), np.ones(3)
    np.testing.assert_array_equal(ops.dense(x, b=b, w=w), ops.dense(x, w, b))
    with pytest.raises(gpukit.GpukitError, match="twice"):
        ops.dense(x, w, w=w)


def test_lists_and_floats_become_float32() -> None:
    assert Tensor([1.0, 2.0]).dtype == np.float32
    assert Tensor(1.5).dtype == np.float32
    assert Tensor([1, 2]).dtype == np.int64
    with pytest.raises(DTypeError, match="numbers"):
        Tensor(["a"])


def test_copies_hold_values_and_refuse_a_tape() -> None:
    a = Tensor([1.0, 2.0], requires_grad=True)
    (a * a).sum().backward()
    for b in (copy.deepcopy(a), pickle.loads(pickle.dumps(a))):
        assert b.requires_grad and b.grad is not None and b.grad.numpy().tolist() == [2.0, 4.0]
        b.assign(np.zeros(2, np.float32))
        assert a.numpy().tolist() == [1.0, 2.0]
    with pytest.raises(TapeError, match=r"cannot be copied with its tape; copy \.detach"):
        copy.deepcopy(a * 2.0)
    assert copy.deepcopy((a * 2.0).detach()).numpy().tolist() == [2.0, 4.0]


@pytest.mark.parametrize("other", [np.array([1.0]), Tensor([1.0]), 1.0, np.float32(1)])
def test_equality_of_values_is_refused_rather_than_false(other: object) -> None:
    a = Tensor([1.0])
    for compare in (lambda: a == other, lambda: other == a, lambda: a != other):
        with pytest.raises(DTypeError, match=r"compare \.numpy\(\)"):
            compare()
    assert a == a and a in [a] and {a: 1}[a] == 1 and a != None and a != "a"  # noqa: E711


def test_gradients_given_to_backward() -> None:
    a = Tensor([1.0, 2.0], requires_grad=True)
    (a * 2.0).backward([1, 3])
    assert a.grad is not None and a.grad.numpy().tolist() == [2.0, 6.0]
    with pytest.raises(ShapeError, match=r"shape \(2,\) was given a gradient of shape \(3,\)"):
        (a * 2.0).backward(np.ones(3, np.float32))
    with pytest.raises(DTypeError, match=r"float32 .* of float64; use .astype\(np.float32\)"):
        (a * 2.0).backward(np.ones(2))


def test_powers_of_a_number() -> None:
    a = Tensor([1.0, 3.0], requires_grad=True)
    y = 2.0**a
    y.sum().backward()
    assert y.numpy().tolist() == [2.0, 8.0] and a.grad is not None
    np.testing.assert_allclose(a.grad.numpy(), np.log(2) * np.array([2.0, 8.0]), rtol=1e-6)


def test_bytes_of_another_order_and_ragged_lists() -> None:
    a = Tensor(np.array([1.0, 2.0], ">f4"))
    assert a.dtype == np.float32 and a.dtype.isnative and a.numpy().tolist() == [1.0, 2.0]
    with pytest.raises(ShapeError, match="cannot be made of these values"):
        Tensor([[1.0], [1.0, 2.0]])
    labels = np.array([0, 2, 1])
    logits = np.eye(3, dtype=np.float32)
    for dtype in (">i4", ">u2", ">i8"):
        np.testing.assert_array_equal(
            ops.softmax_cross_entropy(logits, labels.astype(dtype)),
            ops.softmax_cross_entropy(logits, labels),
        )


X, W = np.ones((1, 4, 4, 1), np.float32), np.ones((3, 3, 1, 2), np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.conv2d(X, W, 1.0), "conv2d: argument 'b' is a float; pass an array"),
        (lambda: ops.conv2d(None, W), "conv2d: argument 'x' is a NoneType; pass an array"),
        (lambda: ops.dense(1, 2), "dense: argument 'x' is a int; pass an array"),
        (lambda: ops.relu(1.0), "relu: argument 'x' is a float; pass an array"),
        (lambda: ops.squared_error(X, 0.0), "squared_error: argument 't' is a float"),
        (lambda: ops.concat(X), "concat: got a ndarray; pass a list"),
        (lambda: ops.concat([X, 1.0]), "concat: got a float; pass arrays"),
    ],
)
def test_numbers_where_arrays_are_needed(call, message: str) -> None:
    with pytest.raises(DTypeError, match=message):
        call()


def test_faults_inside_an_operation_keep_their_own_message() -> None:
    @differentiable
    def faulty(x, y):
        return x.nonsense, (None, None)

    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        faulty(X, 1.0)
