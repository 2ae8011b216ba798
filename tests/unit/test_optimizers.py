"""Optimisers against PyTorch's and formulas, over several steps; settings; exact resume."""

import copy
import json
import pickle

import numpy as np
import pytest

from gpukit import Tensor, layers, optimizers, schedules
from gpukit.autograd import Parameter
from gpukit.autograd.buffer import parameter_buffers
from gpukit.device import get_device
from gpukit.errors import CheckpointError, SettingError

SHAPES = {"conv/kernel": (3, 3, 2, 4), "conv/bias": (4,), "out/kernel": (5, 3)}


class Quadratic:
    """A model whose loss Σ w²·c/2 has another gradient at every step."""

    def __init__(self, device="cpu", dtype=np.float64):
        rng = np.random.default_rng(4)
        here = get_device(device)
        self.parameters = [
            Parameter(here.asarray(rng.normal(size=s).astype(dtype)), name)
            for name, s in SHAPES.items()
        ]
        self._buffers = parameter_buffers(self.parameters)

    def parameter_buffers(self):
        return self._buffers

    def backward(self):
        for i, w in enumerate(self.parameters):
            w.zero_grad()
            (w * w * (0.5 + i)).sum().backward()

    def values(self):
        return np.concatenate([w.numpy().reshape(-1) for w in self.parameters])


def run(optimizer, model, steps=6):
    for _ in range(steps):
        model.backward()
        optimizer.step(model)
    return model.values()


def torch_run(make, steps=6, clip=None):
    torch = pytest.importorskip("torch")
    weights = [torch.tensor(w.numpy().copy(), requires_grad=True) for w in Quadratic().parameters]
    optimizer = make(torch.optim, weights)
    for _ in range(steps):
        optimizer.zero_grad()
        sum(((0.5 + i) * w * w).sum() for i, w in enumerate(weights)).backward()
        if clip is not None:
            clip(torch.nn.utils, weights)
        optimizer.step()
    return np.concatenate([w.detach().numpy().reshape(-1) for w in weights])


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (optimizers.SGD(0.1), lambda o, w: o.SGD(w, 0.1)),
        (optimizers.SGD(0.05, momentum=0.9), lambda o, w: o.SGD(w, 0.05, momentum=0.9)),
        (
            optimizers.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=0.1, decoupled=False),
            lambda o, w: o.SGD(w, 0.05, momentum=0.9, nesterov=True, weight_decay=0.1),
        ),
        (optimizers.Adam(0.05), lambda o, w: o.Adam(w, 0.05, eps=1e-7)),
        (
            optimizers.Adam(
                0.05, beta_1=0.8, beta_2=0.95, epsilon=1e-3, weight_decay=0.2, decoupled=False
            ),
            lambda o, w: o.Adam(w, 0.05, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.2),
        ),
        (optimizers.RMSprop(0.02), lambda o, w: o.RMSprop(w, 0.02, alpha=0.9, eps=1e-7)),
        (optimizers.Adam(0.05, amsgrad=True), lambda o, w: o.Adam(w, 0.05, eps=1e-7, amsgrad=True)),
        (
            optimizers.Adam(0.05, amsgrad=True, weight_decay=0.2, decoupled=False),
            lambda o, w: o.Adam(w, 0.05, eps=1e-7, amsgrad=True, weight_decay=0.2),
        ),
        (
            optimizers.AdamW(0.05),
            lambda o, w: o.AdamW(w, 0.05, eps=1e-7, weight_decay=0.004),
        ),
        (
            optimizers.AdamW(0.05, weight_decay=0.3, amsgrad=True),
            lambda o, w: o.AdamW(w, 0.05, eps=1e-7, weight_decay=0.3, amsgrad=True),
        ),
        (
            optimizers.Adamax(0.05, beta_1=0.8, epsilon=1e-14),
            lambda o, w: o.Adamax(w, 0.05, betas=(0.8, 0.999), eps=1e-14),
        ),
        (
            optimizers.RMSprop(0.02, rho=0.8, momentum=0.5, weight_decay=0.1, decoupled=False),
            lambda o, w: o.RMSprop(w, 0.02, alpha=0.8, eps=1e-7, momentum=0.5, weight_decay=0.1),
        ),
        (
            optimizers.Adagrad(0.1, weight_decay=0.1, decoupled=False),
            lambda o, w: o.Adagrad(
                w, 0.1, initial_accumulator_value=0.1, eps=1e-7, weight_decay=0.1
            ),
        ),
    ],
    ids=lambda o: type(o).__name__ if isinstance(o, optimizers.Optimizer) else "",
)
def test_several_steps_agree_with_torch(mine, theirs):
    again = optimizers.get(json.loads(json.dumps(mine.get_config())))
    assert again.get_config() == mine.get_config()
    expected = torch_run(theirs)
    np.testing.assert_allclose(run(mine, Quadratic()), expected, rtol=1e-10)
    np.testing.assert_allclose(run(again, Quadratic()), expected, rtol=1e-10)
    assert mine.iterations == 6


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_nadam_agrees_with_torch_whose_schedule_is_a_product_in_float32(decay):
    def theirs(o, w):
        return o.NAdam(
            *(w, 0.05, (0.8, 0.999), 1e-7, decay), momentum_decay=1.0, decoupled_weight_decay=True
        )

    mine = optimizers.Nadam(0.05, beta_1=0.8, weight_decay=decay)
    np.testing.assert_allclose(run(mine, Quadratic()), torch_run(theirs), rtol=1e-5, atol=1e-6)


def formula(step, rate=0.05, decay=0.0, steps=6):
    """Six steps in plain float64, by `step(w, g, slots, number)` for each value of w."""
    model = Quadratic()
    values, slots = model.values(), [{} for _ in model.values()]
    factors = np.concatenate([np.full(w.size, 1.0 + 2 * i) for i, w in enumerate(model.parameters)])
    for number in range(1, steps + 1):
        grads = factors * values
        for i, g in enumerate(grads):
            w = values[i] - rate * decay * values[i]
            values[i] = step(w, g, slots[i], number)
    return values


def keras_adamax(w, g, s, t):
    s["m"] = s.get("m", 0.0) + (g - s.get("m", 0.0)) * 0.1
    s["u"] = max(0.999 * s.get("u", 0.0), abs(g))
    return w - 0.05 * s["m"] / ((1 - 0.9**t) * (s["u"] + 1e-7))


def keras_lion(w, g, s, t):
    m = s.get("m", 0.0)
    s["m"] = m * 0.99 + g * 0.01
    return w - 0.05 * np.sign(m * 0.9 + g * 0.1)


def keras_nadam(w, g, s, t):
    def u(n):
        return 0.9 * (1.0 - 0.5 * 0.96**n)

    product = np.prod([u(n) for n in range(1, t + 1)])
    s["m"] = s.get("m", 0.0) + (g - s.get("m", 0.0)) * 0.1
    s["v"] = s.get("v", 0.0) + (g * g - s.get("v", 0.0)) * 0.001
    m_hat = u(t + 1) * s["m"] / (1 - product * u(t + 1)) + (1 - u(t)) * g / (1 - product)
    return w - 0.05 * m_hat / (np.sqrt(s["v"] / (1 - 0.999**t)) + 1e-7)


def keras_momentum(w, g, s, t):
    s["v"] = 0.9 * s.get("v", 0.0) - 0.05 * g
    return w + s["v"]


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize(
    ("mine", "step"),
    [
        (optimizers.Adamax, keras_adamax),
        (optimizers.Lion, keras_lion),
        (optimizers.Nadam, keras_nadam),
        (lambda rate, **more: optimizers.SGD(rate, 0.9, **more), keras_momentum),
    ],
)
def test_several_steps_agree_with_keras_formula(mine, step, decay):
    made = mine(0.05, weight_decay=decay)
    np.testing.assert_allclose(
        run(made, Quadratic()), formula(step, decay=decay), rtol=1e-11, atol=1e-13
    )


@pytest.mark.parametrize("name", ["adamw", "adamax", "nadam", "lion", "amsgrad"])
def test_resumed_steps_have_the_same_bits(name):
    def make():
        return optimizers.Adam(0.05, amsgrad=True) if name == "amsgrad" else optimizers.get(name)

    whole, model, halves = Quadratic(), Quadratic(), make()
    run(make(), whole, 7)
    run(halves, model, 3)
    fresh = optimizers.get(json.loads(json.dumps(halves.get_config())))
    fresh.load_state(halves.state())
    np.testing.assert_array_equal(run(fresh, model, 4), whole.values())


def test_weight_decay_is_decoupled_unless_a_file_is_older():
    old = {"class": "SGD", "learning_rate": 0.05, "momentum": 0.9, "weight_decay": 0.1}
    assert optimizers.get(old).decoupled is False
    assert optimizers.get({**old, "weight_decay": 0.0}).decoupled is True
    coupled = optimizers.SGD(0.05, 0.9, weight_decay=0.1, decoupled=False)
    np.testing.assert_array_equal(run(optimizers.get(old), Quadratic()), run(coupled, Quadratic()))
    assert optimizers.get(coupled.get_config()).decoupled is False
    assert optimizers.SGD(weight_decay=None).weight_decay == 0
    assert optimizers.SGD(weight_decay=0.1).decoupled is True


def test_lists_of_tensors_step_like_a_model():
    model, loose = Quadratic(), Quadratic()
    tensors = [Tensor(w.numpy(), requires_grad=True) for w in loose.parameters]
    one, other = optimizers.Adam(0.05), optimizers.Adam(0.05)
    for _ in range(4):
        model.backward()
        one.step(model)
        for i, w in enumerate(tensors):
            w.zero_grad()
            (w * w * (0.5 + i)).sum().backward()
        other.step(tensors)
    values = np.concatenate([w.numpy().reshape(-1) for w in tensors])
    np.testing.assert_allclose(values, model.values())


def test_tensors_without_gradient_stay_and_tapes_notice_steps():
    a, b = Tensor([1.0], requires_grad=True), Tensor([1.0], requires_grad=True)
    (a * 2.0).sum().backward()
    optimizers.SGD(0.5).step([a, b])
    assert a.item() == 0 and b.item() == 1
    assert a.version == 1 and b.version == 0


def test_parameters_that_backward_did_not_reach_only_decay():
    model = Quadratic()
    optimizer = optimizers.SGD(0.1, momentum=0.9)
    run(optimizer, model, 1)
    for w in model.parameters:
        w.zero_grad()
    before = model.values()
    velocity = np.concatenate(
        [optimizer.state()[f"optimizer/{name}/velocity"].reshape(-1) for name in SHAPES]
    )
    optimizer.step(model)
    np.testing.assert_allclose(model.values(), before + 0.9 * velocity)


def test_twin_gives_the_same_bits():
    for name in ("sgd", "adam", "rmsprop", "adagrad"):
        host = run(optimizers.get(name), Quadratic())
        twin = run(optimizers.get(name), Quadratic("cpu:1"))
        np.testing.assert_allclose(twin, host, rtol=1e-12)
    clipped = run(optimizers.SGD(0.1, momentum=0.9, clipnorm=0.5), Quadratic("cpu:1"))
    np.testing.assert_allclose(
        clipped, run(optimizers.SGD(0.1, momentum=0.9, clipnorm=0.5), Quadratic()), rtol=1e-12
    )


def test_clipping_agrees_with_torch():
    def sgd(o, w):
        return o.SGD(w, 0.1)

    def per_parameter(utils, weights):
        for w in weights:
            utils.clip_grad_norm_([w], 2.0)

    cases = {
        "clipvalue": lambda utils, w: utils.clip_grad_value_(w, 2.0),
        "global_clipnorm": lambda utils, w: utils.clip_grad_norm_(w, 2.0),
        "clipnorm": per_parameter,
    }
    for name, clip in cases.items():
        expected = torch_run(sgd, clip=clip)
        mine = run(optimizers.SGD(0.1, **{name: 2.0}), Quadratic())
        np.testing.assert_allclose(mine, expected, rtol=1e-6)
    loose = run(optimizers.SGD(0.1, global_clipnorm=1e9), Quadratic())
    np.testing.assert_array_equal(loose, run(optimizers.SGD(0.1), Quadratic()))


def test_global_clipping_counts_the_gradients_of_all_devices():
    a = Tensor(np.zeros(2), requires_grad=True)
    b = Tensor(get_device("cpu:1").asarray(np.zeros(2)), requires_grad=True)
    a.backward(np.array([3.0, 0.0]))
    b.backward(np.array([0.0, 4.0]))
    optimizers.SGD(1.0, global_clipnorm=1.0).step([a, b])
    np.testing.assert_allclose(a.numpy(), [-0.6, 0])
    np.testing.assert_allclose(b.numpy(), [0, -0.8])


@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop", "adagrad"])
def test_resume_is_exact(name):
    make = {"sgd": lambda: optimizers.SGD(0.05, momentum=0.9)}.get(
        name, lambda: optimizers.get(name)
    )
    whole, first = Quadratic(dtype=np.float32), Quadratic(dtype=np.float32)
    expected = run(make(), whole, 7)
    optimizer = make()
    run(optimizer, first, 3)
    optimizer.learning_rate = optimizer.learning_rate
    state = optimizer.state()
    second = Quadratic(dtype=np.float32)
    for a, b in zip(second.parameters, first.parameters):
        a.assign(b.numpy())
    resumed = make()
    resumed.load_state({k: v.copy() for k, v in state.items()} | {"conv/kernel": np.zeros(1)})
    assert set(resumed.state()) == set(state)
    assert resumed.iterations == 3
    np.testing.assert_array_equal(run(resumed, second, 4), expected)


def test_state_names_and_shapes():
    optimizer = optimizers.SGD(0.1, momentum=0.9)
    run(optimizer, Quadratic(), 1)
    state = optimizer.state()
    for name, shape in SHAPES.items():
        assert state[f"optimizer/{name}/velocity"].shape == shape
    assert int(state["optimizer/iterations"]) == 1
    assert float(state["optimizer/learning_rate"]) == 0.1


def test_state_that_does_not_fit():
    optimizer = optimizers.SGD(0.1, momentum=0.9)
    run(optimizer, Quadratic(), 1)
    state = optimizer.state()
    lacking = {k: v for k, v in state.items() if "bias" not in k}
    wrong = {**state, "optimizer/conv/bias/velocity": np.zeros(9)}
    for bad, part in ((lacking, "lacks 'optimizer/conv/bias"), (wrong, "has shape")):
        fresh = optimizers.SGD(0.1, momentum=0.9)
        fresh.load_state(bad)
        with pytest.raises(CheckpointError, match=part):
            run(fresh, Quadratic(), 1)
    with pytest.raises(CheckpointError, match="lacks 'optimizer/iterations'"):
        optimizers.SGD().load_state({})


def test_learning_rate_is_a_number_or_a_schedule():
    optimizer = optimizers.SGD(lr=0.2)
    assert optimizer.learning_rate == optimizer.lr == 0.2
    optimizer.learning_rate = 0.0
    assert optimizer.get_config()["learning_rate"] == 0.0
    scheduled = optimizers.SGD(schedules.StepDecay(0.1, every=2))
    model, rates = Quadratic(), []
    for _ in range(5):
        rates.append(scheduled.learning_rate)
        run(scheduled, model, 1)
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.01, 0.01, 0.001])
    again = optimizers.get(json.loads(json.dumps(scheduled.get_config())))
    assert again.get_config() == scheduled.get_config() and again.learning_rate == 0.1
    with pytest.raises(SettingError, match="follows the schedule StepDecay"):
        scheduled.learning_rate = 0.1


@pytest.mark.parametrize(
    "make",
    [
        lambda: optimizers.SGD(float("nan")),
        lambda: optimizers.SGD(-0.1),
        lambda: optimizers.SGD(0),
        lambda: optimizers.SGD(float("inf")),
        lambda: optimizers.SGD("fast"),
        lambda: optimizers.SGD(True),
        lambda: optimizers.SGD(momentum=1.5),
        lambda: optimizers.SGD(weight_decay=-1),
        lambda: optimizers.SGD(clipnorm=0),
        lambda: optimizers.SGD(clipnorm=1, clipvalue=1),
        lambda: optimizers.Adam(beta_1=1.0),
        lambda: optimizers.Adam(epsilon=float("nan")),
        lambda: optimizers.RMSprop(rho=1),
        lambda: optimizers.Adagrad(initial_accumulator_value=-1),
        lambda: optimizers.get("sdg"),
        lambda: optimizers.get(None),
        lambda: setattr(optimizers.SGD(), "learning_rate", float("nan")),
        lambda: optimizers.SGD().step([np.zeros(3)]),
    ],
)
def test_mistakes_are_setting_errors(make):
    with pytest.raises(SettingError) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_unknown_arguments_are_type_errors():
    with pytest.raises(TypeError, match="decay"):
        optimizers.SGD(decay=1e-6)
    with pytest.raises(CheckpointError):
        optimizers.get({"class": "SGD", "decay": 1})


def test_names_and_classes():
    assert isinstance(optimizers.get("SGD"), optimizers.SGD)
    assert isinstance(optimizers.get("RMSprop"), optimizers.RMSprop)
    assert isinstance(optimizers.get(optimizers.Adam), optimizers.Adam)


def test_what_can_never_be_trained_is_refused():
    leaf = Tensor([1.0], requires_grad=True)
    with pytest.raises(SettingError, match=r"is never trained; make it with requires_grad=True"):
        optimizers.SGD(0.1).step([leaf, Tensor([1.0])])
    with pytest.raises(SettingError, match=r"number 0.* never trained; step takes what .* applied"):
        optimizers.SGD(0.1).step([leaf * 0.1])
    with pytest.raises(SettingError, match=r"given a Dense; pass a model, or a list of Tensors"):
        optimizers.SGD(0.1).step(layers.Dense(2))
    norm = layers.BatchNormalization()
    norm(Tensor([[1.0, 2.0]]), training=True).sum().backward()
    optimizers.SGD(0.1).step(norm.parameters)  # moving averages among them


@pytest.mark.parametrize("make", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies_remember(make):
    w = Tensor([1.0, 2.0], requires_grad=True)
    optimizer = optimizers.Adam(0.1)
    other, again = make((optimizer, w)), None
    for _ in range(3):
        (w * w).sum().backward()
        optimizer.step([w])
        w.zero_grad()
        again = make((optimizer, w))
    assert again is not None and again[0].iterations == 3 and other[0].iterations == 0
    for o, v in ((optimizer, w), again):
        (v * v).sum().backward()
        o.step([v])
    np.testing.assert_array_equal(again[1].numpy(), w.numpy())
