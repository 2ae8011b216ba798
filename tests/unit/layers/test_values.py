"""Layers against formulas in float64 and against PyTorch."""

import numpy as np
import pytest

from gpukit import Tensor, layers, ops


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def built(layer, x, seed=0):
    layer.build((None, *x.shape[1:]), dtype=x.dtype, rng=np.random.default_rng(seed))
    for parameter in layer.parameters:
        if parameter.name.endswith("bias"):
            parameter.assign(np.linspace(-1, 1, parameter.size))
    return layer


@pytest.mark.parametrize(
    "activation", [None, "softmax", *sorted({*ops.activation.__all__} - {"leaky_relu"})]
)
def test_dense_is_the_formula(rng, activation):
    x = rng.normal(size=(4, 2, 5))
    layer = built(layers.Dense(3, activation=activation), x)
    w, b = layer.get_weights()
    z = x @ w + b
    expected = z if activation is None else getattr(ops, activation)(z)
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize(
    "settings",
    [
        {"strides": (2, 1), "padding": ((1, 1), (2, 2)), "activation": "relu"},
        {"dilation_rate": (2, 1), "groups": 2, "use_bias": False},
        {"padding": 1, "groups": 4, "activation": "tanh"},
    ],
)
def test_conv_agrees_with_torch(rng, settings):
    torch = pytest.importorskip("torch")
    x = rng.normal(size=(2, 9, 8, 4))
    layer = built(layers.Conv2D(8, (3, 2), **settings), x)
    w, *b = (torch.tensor(a) for a in layer.get_weights())
    padding = settings.get("padding", 0)
    padding = (padding, padding) if isinstance(padding, int) else (padding[0][0], padding[1][0])
    y = torch.nn.functional.conv2d(
        torch.tensor(x).permute(0, 3, 1, 2),
        w.permute(3, 2, 0, 1),
        b[0] if b else None,
        settings.get("strides", 1),
        padding,
        settings.get("dilation_rate", 1),
        settings.get("groups", 1),
    )
    if settings.get("activation"):
        y = getattr(torch, settings["activation"])(y)
    np.testing.assert_allclose(layer(x).numpy(), y.permute(0, 2, 3, 1).numpy(), atol=1e-12)


def test_depthwise_channels_do_not_mix(rng):
    x = rng.normal(size=(2, 6, 6, 3))
    layer = built(layers.DepthwiseConv2D(3, depth_multiplier=2), x)
    kernel, bias = layer.get_weights()
    assert kernel.shape == (3, 3, 1, 6)
    y = layer(x).numpy()
    for c in range(3):
        for j in range(2):
            k = 2 * c + j
            alone = ops.conv2d(x[..., c : c + 1], kernel[..., k : k + 1].copy()) + bias[k]
            np.testing.assert_allclose(y[..., k], alone[..., 0], atol=1e-12)


def test_a_filter_of_the_notes_has_760_parameters():
    layer = layers.Conv2D(10, 5)
    layer.build((None, 32, 32, 3))
    assert layer.count_params() == 760


def test_pooling_of_the_notes():
    x = np.array([[1, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]], np.float32)
    image = x.reshape(1, 4, 4, 1)
    assert layers.MaxPooling2D((2, 2))(image)[0, :, :, 0].tolist() == [[6, 8], [3, 4]]
    assert layers.AveragePooling2D()(image)[0, :, :, 0].tolist() == [[3.25, 5.25], [2, 2]]
    assert layers.GlobalAveragePooling2D()(image).tolist() == [[3.125]]
    # Two rows and columns of windows over one of padding all round, which the mean does not count.
    assert layers.AveragePooling2D(3, 3, "same")(image)[0, 1, 1, 0] == (1 + 0 + 3 + 4) / 4


def test_activation_layers(rng):
    x = rng.normal(size=(3, 4))
    np.testing.assert_allclose(layers.LeakyReLU()(x), np.where(x > 0, x, 0.3 * x))
    np.testing.assert_allclose(layers.Activation("leaky_relu")(x), np.where(x > 0, x, 0.2 * x))
    np.testing.assert_allclose(layers.ELU(2.0)(x), np.where(x > 0, x, 2 * np.expm1(x)))
    np.testing.assert_allclose(layers.ReLU()(x), np.maximum(x, 0))
    np.testing.assert_allclose(layers.Softmax()(x).sum(axis=1), 1)
    np.testing.assert_allclose(layers.Activation("exponential")(x), np.exp(x))
    assert layers.Activation("linear")(x) is x


def test_reshape_and_flatten_keep_row_major_order(rng):
    x = rng.normal(size=(2, 3, 4, 5))
    np.testing.assert_array_equal(layers.Flatten()(x), x.reshape(2, 60))
    np.testing.assert_array_equal(layers.Reshape((6, -1))(x), x.reshape(2, 6, 10))


def test_dropout_in_training_and_at_test_time(rng):
    x = np.ones((100, 50), np.float32)
    inverted, classic = layers.Dropout(0.25, seed=9), layers.Dropout(0.25, seed=9, classic=True)
    a, b = inverted(x, training=True), classic(x, training=True)
    np.testing.assert_array_equal(a != 0, b != 0)
    np.testing.assert_allclose(np.unique(a), [0, 1 / 0.75])
    assert np.unique(b).tolist() == [0, 1]
    assert abs((a == 0).mean() - 0.25) < 0.02
    np.testing.assert_array_equal(inverted(x), x)
    np.testing.assert_array_equal(classic(x), x * np.float32(0.75))
    assert (inverted(x, training=True) != a).any(), "a new mask at each step"
    assert layers.Dropout(0)(x, training=True) is x


def test_dropout_in_a_model_is_keyed_by_seed_stream_and_step():
    x = np.ones((8, 8), np.float32)

    def mask(seed, stream, step, own=None):
        layer = layers.Dropout(0.5, seed=own)
        layer.context, layer.stream = layers.Context(seed, step), stream
        return layer(x, training=True)

    np.testing.assert_array_equal(mask(1, 2, 3), mask(1, 2, 3))
    np.testing.assert_array_equal(mask(1, 2, 3), ops.dropout(x, rate=0.5, seed=1, layer=2, step=3))
    np.testing.assert_array_equal(mask(1, 2, 3, own=7), mask(5, 2, 3, own=7))
    for other in (mask(2, 2, 3), mask(1, 3, 3), mask(1, 2, 4), mask(1, 2, 3, own=7)):
        assert (other != mask(1, 2, 3)).any()


def test_batch_norm_follows_the_batch_and_uses_moving_averages_at_test_time(rng):
    x = rng.normal(2, 3, size=(6, 5, 4, 2))
    layer = layers.BatchNormalization(momentum=0.9, epsilon=1e-3)
    y = layer(Tensor(x), training=True).numpy()
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(variance + 1e-3), rtol=1e-9)
    np.testing.assert_allclose(layer.moving_mean.numpy(), 0.1 * mean)
    np.testing.assert_allclose(layer.moving_variance.numpy(), 0.9 + 0.1 * variance)
    at_test = layer(x).numpy()
    moving = (layer.moving_mean.numpy(), layer.moving_variance.numpy())
    np.testing.assert_allclose(at_test, (x - moving[0]) / np.sqrt(moving[1] + 1e-3), rtol=1e-9)
    names = [p.name.split("/")[1] for p in layer.parameters]
    assert names == ["gamma", "beta", "moving_mean", "moving_variance"]
    assert [p.trainable for p in layer.parameters] == [True, True, False, False]


def test_batch_norm_agrees_with_torch(rng):
    torch = pytest.importorskip("torch")
    x = rng.normal(2, 3, size=(6, 5, 4, 2))
    layer = layers.BatchNormalization(epsilon=1e-5)
    mine = Tensor(x, requires_grad=True)
    y = layer(mine, training=True)
    (y * y * y).sum().backward()
    theirs = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    z = torch.nn.BatchNorm2d(2, dtype=torch.float64)(theirs)
    (z**3).sum().backward()
    np.testing.assert_allclose(y.numpy(), z.detach().numpy().transpose(0, 2, 3, 1), atol=1e-9)
    np.testing.assert_allclose(
        mine.grad.numpy(), theirs.grad.numpy().transpose(0, 2, 3, 1), atol=1e-8
    )


def test_batch_norm_without_scale_and_centre(rng):
    x = rng.normal(size=(6, 3))
    layer = layers.BatchNormalization(scale=False, center=False)
    layer(x, training=True)
    assert [p.name.split("/")[1] for p in layer.parameters] == ["moving_mean", "moving_variance"]
    layer(np.zeros((0, 3)), training=True)
    assert np.isfinite(layer.moving_mean.numpy()).all()


def test_lrn_is_conventions_formula(rng):
    x = rng.normal(size=(2, 3, 3, 6))
    y = layers.LocalResponseNormalization(size=3, alpha=0.3, beta=0.75, k=2.0, groups=2)(x)
    for c in range(6):
        group = range(3) if c < 3 else range(3, 6)
        near = [j for j in group if abs(j - c) <= 1]
        scale = 2.0 + 0.1 * (x[..., near] ** 2).sum(axis=-1)
        np.testing.assert_allclose(y[..., c], x[..., c] / scale**0.75, rtol=1e-12)


def test_add_and_concatenate(rng):
    a, b = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 4))
    np.testing.assert_array_equal(layers.Add()([a, b, a]), a + b + a)
    np.testing.assert_array_equal(layers.Concatenate()([a, b]), np.concatenate([a, b], -1))
    np.testing.assert_array_equal(layers.Concatenate(axis=1)([a, b]), np.concatenate([a, b], 1))
