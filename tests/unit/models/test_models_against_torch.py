"""Whole models against PyTorch with the same weights: outputs, losses, gradients, training."""

from __future__ import annotations

import numpy as np
import pytest

from gpukit import layers, optimizers
from gpukit.core.settings import training_mode
from gpukit.layers import (
    Add,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Flatten,
    GlobalAveragePooling2D,
    Input,
    LocalResponseNormalization,
    MaxPooling2D,
)
from gpukit.models import Model, lenet5
from gpukit.training import loop

torch = pytest.importorskip("torch")
F = torch.nn.functional

# A float32 sum over a few thousand products rounds to about this much of its largest terms.
ROUNDING = {"float64": 1e-10, "float32": 2e-5}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def to_torch(array):
    return torch.tensor(np.array(array))


def kernels(model):
    """PyTorch's leaf tensors with the values, in gpukit's layout, of all trainable parameters."""
    return {p.name: to_torch(p.numpy()).requires_grad_() for p in model.parameters if p.trainable}


def conv(w, x, name, **settings):
    """A convolution of x (N, C, H, W) with the parameters of one of gpukit's layers."""
    kernel = w[f"{name}/kernel"].permute(3, 2, 0, 1)
    return F.conv2d(x, kernel, w.get(f"{name}/bias"), **settings)


def dense(w, x, name):
    return x @ w[f"{name}/kernel"] + w[f"{name}/bias"]


def lenet5_of_torch(w, x):
    x = F.max_pool2d(F.relu(conv(w, x, "c1", padding=2)), 2)
    x = F.max_pool2d(F.relu(conv(w, x, "c3")), 2)
    x = x.permute(0, 2, 3, 1).flatten(1)  # gpukit flattens images with their channels last
    x = F.relu(dense(w, F.relu(dense(w, x, "f5")), "f6"))
    return dense(w, x, "output")


def digits(dtype, count=16, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 28, 28, 1)).astype(dtype), rng.integers(0, 10, count)


def images_of_torch(x):
    return to_torch(x).permute(0, 3, 1, 2)


def close(mine, theirs, dtype):
    theirs = theirs.detach().numpy()
    scale = max(float(np.abs(theirs).max()), 1e-30)
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=ROUNDING[dtype] * scale)


def gradients(model, x, y):
    """(loss, gradients by name) of one training pass, without a step."""
    with training_mode():
        outputs = model.for_loss(x)
        loss = model.training_loss.per_sample(y, outputs).mean()
    loss.backward()
    grads = {p.name: p.grad.numpy().copy() for p in model.parameters if p.trainable}
    model.zero_grad()
    return loss.item(), grads


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_lenet5(dtype):
    model = lenet5(dtype=dtype, seed=3)
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = digits(dtype)
    w = kernels(model)
    logits = lenet5_of_torch(w, images_of_torch(x))
    expected = F.cross_entropy(logits, torch.tensor(y))
    expected.backward()
    close(model.predict(x), torch.softmax(logits, 1), dtype)
    loss, grads = gradients(model, x, y)
    assert loss == pytest.approx(expected.item(), rel=ROUNDING[dtype])
    for name, grad in grads.items():
        close(grad, w[name].grad, dtype)


# Keras's epsilon for PyTorch too; accumulators start as Keras has them.
OPTIMIZERS = {
    "momentum and weight decay": (
        lambda: optimizers.SGD(0.05, momentum=0.9, weight_decay=5e-3, decoupled=False),
        lambda w: torch.optim.SGD(w, 0.05, momentum=0.9, weight_decay=5e-3),
    ),
    "nesterov": (
        lambda: optimizers.SGD(0.05, momentum=0.9, nesterov=True),
        lambda w: torch.optim.SGD(w, 0.05, momentum=0.9, nesterov=True),
    ),
    "adam": (
        lambda: optimizers.Adam(0.002),
        lambda w: torch.optim.Adam(w, 0.002, eps=1e-7),
    ),
    "rmsprop": (
        lambda: optimizers.RMSprop(0.001),
        lambda w: torch.optim.RMSprop(w, 0.001, alpha=0.9, eps=1e-7),
    ),
    "adagrad": (
        lambda: optimizers.Adagrad(0.02),
        lambda w: torch.optim.Adagrad(w, 0.02, initial_accumulator_value=0.1, eps=1e-7),
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS, ids=lambda name: name.replace(" ", "-"))
def test_ten_steps_of_lenet5(name):
    mine, theirs = OPTIMIZERS[name]
    model = lenet5(dtype="float64", seed=3)
    model.compile(mine(), "sparse_categorical_crossentropy")
    w = kernels(model)
    optimizer = theirs(list(w.values()))
    losses = []
    for step in range(10):
        x, y = digits("float64", 8, seed=step)
        optimizer.zero_grad()
        loss = F.cross_entropy(lenet5_of_torch(w, images_of_torch(x)), torch.tensor(y))
        loss.backward()
        optimizer.step()
        losses.append((model.train_on_batch(x, y), loss.item()))
    np.testing.assert_allclose(*zip(*losses), rtol=1e-9)
    for parameter in model.parameters:
        np.testing.assert_allclose(
            parameter.numpy(), w[parameter.name].detach().numpy(), rtol=0, atol=1e-9
        )


def branches(dtype):
    """Every kind of layer that PyTorch can check, on two branches that join twice."""
    image = Input((12, 12, 4))
    stem = Conv2D(8, 3, padding="same", use_bias=False, name="stem")(image)
    stem = BatchNormalization(momentum=0.9, epsilon=1e-3, name="bn")(stem)
    stem = layers.LeakyReLU(0.1)(stem)
    left = DepthwiseConv2D(3, padding=1, depth_multiplier=2, name="deep")(stem)
    left = Conv2D(8, 1, activation="tanh", name="point")(left)
    right = LocalResponseNormalization(size=3, alpha=0.3, beta=0.75, k=1.0)(stem)
    right = Conv2D(8, 3, padding=((1, 1), (1, 1)), groups=2, activation="elu", name="groups")(right)
    joined = Add()([left, right, stem])
    joined = Concatenate()([MaxPooling2D(3, 2)(joined), MaxPooling2D(3, 2)(stem)])
    flat = Concatenate()([GlobalAveragePooling2D()(joined), Flatten()(joined)])
    return Model(image, Dense(5, activation="softmax", name="out")(flat), dtype=dtype, seed=2)


def branches_of_torch(w, x, moving):
    x = F.conv2d(x, w["stem/kernel"].permute(3, 2, 0, 1), padding=1)
    x = F.batch_norm(
        x, moving[0], moving[1], w["bn/gamma"], w["bn/beta"], training=moving[2], momentum=0.1,
        eps=1e-3,
    )  # fmt: skip
    stem = F.leaky_relu(x, 0.1)
    left = torch.tanh(conv(w, conv(w, stem, "deep", padding=1, groups=8), "point"))
    right = F.local_response_norm(stem, 3, alpha=0.3, beta=0.75, k=1.0)
    right = F.elu(conv(w, right, "groups", padding=1, groups=2))
    joined = torch.cat([F.max_pool2d(left + right + stem, 3, 2), F.max_pool2d(stem, 3, 2)], 1)
    flat = torch.cat([joined.mean((2, 3)), joined.permute(0, 2, 3, 1).flatten(1)], 1)
    return dense(w, flat, "out")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_branches(dtype):
    model = branches(dtype)
    model.compile("sgd", "categorical_crossentropy")
    rng = np.random.default_rng(1)
    x = rng.normal(1, 2, size=(6, 12, 12, 4)).astype(dtype)
    y = rng.dirichlet(np.ones(5), 6).astype(dtype)
    w = kernels(model)
    like = w["bn/gamma"].detach()
    moving = [torch.zeros_like(like), torch.ones_like(like), True]
    loss = F.cross_entropy(branches_of_torch(w, images_of_torch(x), moving), torch.tensor(y))
    loss.backward()
    mine, grads = gradients(model, x, y)
    assert mine == pytest.approx(loss.item(), rel=ROUNDING[dtype])
    for name, grad in grads.items():
        close(grad, w[name].grad, dtype)
    # PyTorch's running variance is the unbiased one: n/(n - 1) of gpukit's and Keras's.
    count = 6 * 12 * 12
    norm = model.get_layer("bn")
    close(norm.moving_mean.numpy(), moving[0], dtype)
    biased = 0.9 + (moving[1] - 0.9) * (count - 1) / count
    close(norm.moving_variance.numpy(), biased, dtype)
    # At test time both use the moving averages; PyTorch gets gpukit's.
    at_test = [to_torch(norm.moving_mean.numpy()), to_torch(norm.moving_variance.numpy()), False]
    logits = branches_of_torch(w, images_of_torch(x), at_test)
    close(model.predict(x), torch.softmax(logits, 1), dtype)


def test_ten_steps_of_branches():
    model = branches("float64")
    model.compile(optimizers.SGD(0.02, momentum=0.9), "categorical_crossentropy")
    w = kernels(model)
    moving = [torch.zeros(8).double(), torch.ones(8).double(), True]
    optimizer = torch.optim.SGD(list(w.values()), 0.02, momentum=0.9)
    rng = np.random.default_rng(1)
    for _ in range(10):
        x = rng.normal(size=(4, 12, 12, 4))
        y = np.eye(5)[rng.integers(0, 5, 4)]
        optimizer.zero_grad()
        loss = F.cross_entropy(branches_of_torch(w, images_of_torch(x), moving), torch.tensor(y))
        loss.backward()
        optimizer.step()
        figures = loop.train_step(model, x, y)
        assert figures["loss"][0] / figures["loss"][1] == pytest.approx(loss.item(), rel=1e-9)
    for name, theirs in w.items():
        mine = next(p for p in model.parameters if p.name == name)
        np.testing.assert_allclose(mine.numpy(), theirs.detach().numpy(), rtol=0, atol=1e-9)
