"""Names, errors, parameters, penalties and the symbolic graph."""

import numpy as np
import pytest

from gpukit import Tensor, layers, models, ops
from gpukit.core.settings import training_mode
from gpukit.errors import DTypeError, SettingError, ShapeError
from gpukit.utils import set_random_seed


def message(call, error):
    with pytest.raises(error) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_default_names_are_keras_like():
    names = {
        layers.Conv2D(1, 1): "conv2d",
        layers.MaxPooling2D(): "max_pooling2d",
        layers.BatchNormalization(): "batch_normalization",
        layers.GlobalAveragePooling2D(): "global_average_pooling2d",
        layers.LeakyReLU(): "leaky_relu",
    }
    for layer, name in names.items():
        assert layer.name == name and layer.auto_named
    assert not layers.Dense(1, name="out").auto_named


def test_renaming_renames_parameters():
    layer = layers.Dense(2)
    layer.build((None, 3))
    layer.rename("dense_7")
    assert [p.name for p in layer.parameters] == ["dense_7/kernel", "dense_7/bias"]


@pytest.mark.parametrize(
    ("shape", "way_out"),
    [
        ((2, 784), "Conv2D 'conv1': needs (N, H, W, C), got (N, 784); add a Reshape((28, 28, 1))"),
        ((2, 3072), "Reshape((32, 32, 3)) layer"),
        ((2, 35), "makes (H, W, C) of the 35 values"),
        ((2, 28, 28), "add a Reshape((28, 28, 1)) layer"),
        ((2, 1, 1, 1, 1), "reshape the input"),
    ],
)
def test_wrong_rank_names_the_layer_and_the_way_out(shape, way_out):
    layer = layers.Conv2D(3, 1, name="conv1")
    x = np.zeros(shape, np.float32)
    assert way_out in message(lambda: layer(x), ShapeError)
    assert way_out in message(lambda: layer.compute_output_shape((None, *shape[1:])), ShapeError)


def test_a_built_layer_refuses_other_channels_and_ranks():
    layer = layers.Dense(2, name="d")
    layer(np.zeros((1, 5), np.float32))
    assert "Dense 'd': was built for inputs (N, …, 5), got (1, 6)" in message(
        lambda: layer(np.zeros((1, 6), np.float32)), ShapeError
    )
    conv = layers.Conv2D(2, 1)
    conv(np.zeros((1, 3, 3, 1), np.float32))
    assert "got (4, 9)" in message(lambda: conv(np.zeros((4, 9), np.float32)), ShapeError)


def test_dtype_errors_name_the_layer_once():
    layer = layers.Dense(2, name="d")
    text = message(lambda: layer(np.zeros((1, 5), np.int64)), DTypeError)
    assert text.startswith("Dense 'd': ") and "astype" in text and text.count("'d'") == 1
    assert "got a str" in message(lambda: layers.Flatten()("x"), DTypeError)


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: layers.Dense(0, name="x"), "Dense 'x': units=0: use a whole number, 1 or more"),
        (lambda: layers.Dense(2.5), "units=2.5"),
        (lambda: layers.Dense(True), "units=True"),
        (
            lambda: layers.Dense(2, activation="rleu"),
            "unknown activation 'rleu'; use one of linear",
        ),
        (lambda: layers.Dense(2, activation=3), "activation=3"),
        (lambda: layers.Dense(2, kernel_initializer="he"), "unknown initializer 'he'"),
        (lambda: layers.Dense(2, bias_regularizer="l3"), "unknown regularizer 'l3'"),
        (lambda: layers.Dense(2, kernel_constraint="x"), "unknown constraint 'x'"),
        (lambda: layers.Dense(2, algo=3), "algo=3"),
        (lambda: layers.Conv2D(-6, 5, name="c"), "Conv2D 'c': filters=-6"),
        (lambda: layers.Conv2D(6, 0), "kernel_size 0"),
        (lambda: layers.Conv2D(6, 5, strides=-1), "strides -1"),
        (lambda: layers.Conv2D(6, 5, padding="smae"), "padding 'smae'"),
        (lambda: layers.Conv2D(6, 5, groups=0), "groups=0"),
        (lambda: layers.Dropout(float("nan")), "Dropout 'dropout': rate=nan"),
        (lambda: layers.Dropout(1.0), "rate=1.0"),
        (lambda: layers.Dropout(-0.1), "at least 0 and below 1"),
        (lambda: layers.Dropout("half"), "rate='half'"),
        (lambda: layers.BatchNormalization(momentum=2), "momentum=2"),
        (lambda: layers.BatchNormalization(epsilon=0), "epsilon=0"),
        (lambda: layers.LocalResponseNormalization(size=0), "size=0"),
        (lambda: layers.Reshape((2, -1, -1)), "target_shape"),
        (lambda: layers.Reshape((0, 2)), "target_shape"),
        (lambda: layers.Concatenate(axis=0), "axis=0"),
        (lambda: layers.MaxPooling2D((2, 2, 2)), "pool_size"),
        (lambda: layers.Flatten(name=""), "name=''"),
        (lambda: layers.Flatten(input_shape=(28, 0)), "input_shape=0"),
    ],
)
def test_bad_settings_are_one_clear_line(make, part):
    assert part in message(make, SettingError)


@pytest.mark.parametrize(
    ("layer", "shape", "part"),
    [
        (
            layers.Conv2D(6, 5, groups=5, name="conv2"),
            (None, 20, 20, 96),
            "Conv2D 'conv2': 96 input channels do not divide into groups=5; use 1, 2, 3, 6",
        ),
        (
            layers.Conv2D(6, 9),
            (None, 7, 20, 1),
            "filter height 9 is larger than the input's height 7",
        ),
        (layers.Conv2D(6, 3, strides=3, strict=True), (None, 7, 7, 1), "= 2.33 does not fit"),
        (layers.MaxPooling2D(3, padding=3), (None, 7, 7, 1), "padding"),
        (layers.MaxPooling2D(2, strict=True), (None, 7, 7, 1), "does not fit"),
        (layers.Reshape((4, 4)), (None, 15), "15 values do not fit (4, 4)"),
        (layers.LocalResponseNormalization(groups=3), (None, 2, 2, 4), "use 1, 2, 4"),
        (layers.Dense(3), (None,), "needs (N, …, features)"),
        (layers.Add(), (None, 3), "joins a list"),
        (layers.Add(), [(None, 3), (None, 4)], "cannot join (N, 3), (N, 4)"),
        (layers.Concatenate(), [(None, 3, 1), (None, 4, 1)], "axis 2"),
        (layers.Concatenate(axis=3), [(None, 3), (None, 4)], "axis=3 does not exist"),
        (layers.Flatten(), [(None, 3), (None, 4)], "takes one input, got 2"),
        (layers.InputLayer((3, 3)), (None, 4, 3), "needs (N, 3, 3), got (N, 4, 3)"),
    ],
)
def test_shapes_that_do_not_go_together(layer, shape, part):
    text = message(lambda: layer.compute_output_shape(shape), (ShapeError, SettingError))
    assert part in text and text.startswith(layer.label)


def test_numpy_integers_are_welcome():
    layer = layers.Conv2D(np.int64(6), np.array([3, 3]), strides=(np.int32(2), 2))
    assert layer.compute_output_shape((None, 9, 9, np.int64(2))) == (None, 4, 4, 6)
    assert type(layer.get_config()["filters"]) is int


def test_open_height_and_width():
    layer = layers.Conv2D(6, 3, padding="same", strides=2)
    assert layer.compute_output_shape((None, None, 8, 3)) == (None, None, 4, 6)
    assert layers.Flatten().compute_output_shape((None, None, 3)) == (None, None)
    layer(np.zeros((1, 5, 5, 3), np.float32))
    assert layer(np.zeros((1, 11, 7, 3), np.float32)).shape == (1, 6, 4, 6)


def test_get_and_set_weights():
    layer = layers.Dense(2, name="d")
    layer.build((None, 3))
    weights = layer.get_weights()
    weights[0][:] = 7
    assert not (layer.get_weights()[0] == 7).any()
    layer.set_weights(weights)
    np.testing.assert_array_equal(layer.get_weights()[0], weights[0])
    assert layer.count_params() == 8
    assert "has 2 parameters (kernel, bias), got 1" in message(
        lambda: layer.set_weights(weights[:1]), ShapeError
    )
    before = layer.get_weights()
    message(lambda: layer.set_weights([weights[0] + 1, np.zeros(3)]), ShapeError)
    np.testing.assert_array_equal(layer.get_weights()[0], before[0])
    assert "before it is built" in message(lambda: layers.Dense(2).count_params(), SettingError)


def test_first_values_are_a_function_of_the_generator():
    def kernel(seed):
        layer = layers.Conv2D(4, 3)
        layer.build((None, 8, 8, 2), rng=np.random.default_rng(seed))
        return layer.get_weights()[0]

    np.testing.assert_array_equal(kernel(1), kernel(1))
    assert (kernel(1) != kernel(2)).any()


def test_random_seed_makes_layers_repeatable():
    def kernel():
        layer = layers.Dense(4)
        layer.build((None, 3))
        return layer.get_weights()[0]

    set_random_seed(5)
    first = kernel()
    assert (first != kernel()).any()
    set_random_seed(5)
    np.testing.assert_array_equal(first, kernel())


def test_symbolic_calls_record_the_graph():
    a = layers.Input((8, 8, 3), name="image")
    b = layers.Conv2D(3, 3, padding="same")(a)
    c = layers.Add()([a, b])
    assert c.shape == (None, 8, 8, 3) and c.inputs == (a, b)
    assert a.inputs == () and a.layer.name == "image"
    assert isinstance(c.layer, layers.Add) and not b.layer.built
    with pytest.raises(DTypeError, match="beside symbolic"):
        layers.Add()([a, np.zeros((1, 8, 8, 3))])


def test_penalties_of_kernel_bias_and_activity():
    x = np.full((4, 3), 2.0, np.float32)
    layer = layers.Dense(
        2,
        use_bias=True,
        kernel_initializer="ones",
        bias_initializer="ones",
        kernel_regularizer="l2",
        bias_regularizer=lambda b: ops.sum(b) * 10.0,
        activity_regularizer="l1",
    )
    assert layer.regularization() is None
    layer(x)
    # kernel 0.01·6; bias 10·2; activity 0.01·(4·2·7)/4, the mean over the batch
    assert layer.regularization().item() == pytest.approx(0.06 + 20 + 0.14)
    layer(x)
    assert layer.regularization().item() == pytest.approx(0.06 + 20 + 0.14)
    layer.reset_losses()
    assert layer.regularization().item() == pytest.approx(0.06 + 20)


def test_activity_penalties_of_a_shared_layer_add_up_in_a_model():
    layer = layers.Dense(2, kernel_initializer="ones", activity_regularizer="l2")
    layer.context = layers.Context(seed=1)
    x = np.ones((5, 3), np.float32)
    layer(x)
    layer(x)
    assert layer.regularization().item() == pytest.approx(2 * 0.01 * 2 * 9)


def test_constraints_apply_when_asked():
    layer = layers.Dense(2, kernel_constraint="non_neg", bias_constraint="non_neg")
    layer.build((None, 3))
    layer.set_weights([np.full((3, 2), -1.0), np.array([-1.0, 2.0])])
    layer.apply_constraints()
    np.testing.assert_array_equal(layer.get_weights()[0], 0)
    np.testing.assert_array_equal(layer.get_weights()[1], [0, 2])


def test_final_activation_and_logits():
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    for name in ("softmax", "sigmoid", "elu"):
        layer = layers.Dense(3, activation=name)
        assert layer.final_activation == name
        y = layer(x)
        np.testing.assert_allclose(
            getattr(ops, name)(layer.logits(x)).numpy(), y.numpy(), rtol=1e-6
        )
    assert layers.Dense(3).final_activation is None
    assert layers.Dense(3, activation="softmax", activity_regularizer="l2").final_activation is None
    for layer in (layers.Softmax(), layers.Activation("softmax"), layers.Activation(ops.softmax)):
        assert layer.final_activation == "softmax"
        np.testing.assert_array_equal(layer.logits(x), x)
    assert layers.Activation(lambda x: x).final_activation is None


def test_functions_as_activations_work_and_are_described_by_name():
    layer = layers.Dense(2, activation=lambda x: x * 2.0, kernel_initializer="ones")
    assert layer(np.ones((1, 3), np.float32)).numpy().tolist() == [[6.0, 6.0]]
    assert layer.get_config()["activation"] == {"function": "<lambda>"}
    assert layers.Dense(2, activation=ops.relu).get_config()["activation"] == "relu"


def test_training_follows_the_context_unless_given():
    class Probe(layers.Layer):
        def call(self, inputs, training):
            self.seen = training
            return inputs

    probe, x = Probe(), np.ones((1, 1), np.float32)
    probe(x)
    assert probe.seen is False
    with training_mode():
        probe(x)
        assert probe.seen is True
        probe(x, training=False)
        assert probe.seen is False


def test_own_layers_can_be_registered():
    @layers.register
    class Scale(layers.Layer):
        def __init__(self, factor=1.0, name=None, input_shape=None, dtype=None):
            super().__init__(name=name, input_shape=input_shape, dtype=dtype)
            self.factor = factor

        def call(self, inputs, training):
            return inputs * self.factor

    again = layers.from_config(Scale(3.0).get_config())
    assert isinstance(again, Scale) and again(Tensor([1.0])).item() == 3.0


def test_own_layers_written_as_for_keras_are_told_how():
    with pytest.raises(SettingError, match=r"^Built: make parameters in create_parameters"):

        class Built(layers.Layer):
            def build(self, input_shape):
                pass

    with pytest.raises(SettingError, match=r"^Called: call needs all of \(self, inputs, training"):

        class Called(layers.Layer):
            def call(self, inputs):
                return inputs

    class Fine(layers.Layer):
        def call(self, inputs, training=False):
            return None

    with pytest.raises(SettingError, match=r"^Fine 'fine': call returned None"):
        Fine()(Tensor([1.0]))

    class Bare(layers.Layer):
        def __init__(self):
            pass

    with pytest.raises(SettingError, match=r"Bare's __init__ does not call super\(\).__init__"):
        models.Sequential([Bare()])


def test_own_layers_name_their_initializers():
    class Named(layers.Layer):
        def create_parameters(self, input_shape):
            self.w = self.add_parameter("w", input_shape[-1:], "ones")

        def call(self, inputs, training):
            return ops.multiply(inputs, self.w)

    assert Named()(Tensor([[2.0, 3.0]])).numpy().tolist() == [[2.0, 3.0]]
