"""The Keras programs of the lecture notes, which must run with only their import lines changed.

They are kept here as Keras programs: fragments are completed with data and `compile`, a typo
(`'relu,`) is mended. `run` changes the lines that begin with "import" or "from" and nothing else.
"""

from __future__ import annotations

import re
import textwrap
import warnings

import numpy as np
import pytest

from gpukit import data, ops
from gpukit.layers import Conv2D, Dense
from gpukit.models import Sequential


@pytest.fixture(scope="module")
def images():
    return data.load(limit=400)


def run(program, **given):
    """The variables of a Keras program after it ran on gpukit."""
    lines = textwrap.dedent(program).strip().splitlines()
    for i, line in enumerate(lines):
        line = re.sub(r"^from keras\b", "from gpukit", line)
        lines[i] = re.sub(r"^import keras$", "import gpukit as keras", line)
    variables = dict(given)
    exec("\n".join(lines), variables)
    return variables


NETWORK = """
    model = Sequential()
    model.add(Conv2D(8, kernel_size=(5, 5), strides=(2, 2), activation='relu',
                     input_shape=(28, 28, 1)))
    model.add(Flatten())
    model.add(Dense(10, activation='softmax'))
    model.compile(loss='sparse_categorical_crossentropy', optimizer=SGD(lr=0.05, momentum=0.9),
                  metrics=['accuracy'])
"""
IMPORTS = """
    from keras.models import Sequential
    from keras.layers import Conv2D, Dense, Dropout, Flatten, MaxPooling2D
    from keras.optimizers import SGD
"""


def test_dropout_network(images):
    """CNN of "Dropout in Keras", with one-hot labels, as the whole program around it has them."""
    made = run(
        IMPORTS
        + """
    import keras

    num_classes = 10
    input_shape = (28, 28, 1)
    x_train = x_train.astype('float32') / 255
    x_test = x_test.astype('float32') / 255
    y_train = keras.utils.to_categorical(y_train, num_classes)
    y_test = keras.utils.to_categorical(y_test, num_classes)

    model = Sequential()
    model.add(Conv2D(32, kernel_size=(3, 3),
                    activation='relu',
                    input_shape=input_shape))
    model.add(Conv2D(64, (3, 3), activation='relu'))
    model.add(MaxPooling2D(pool_size=(2, 2)))
    model.add(Dropout(0.25))

    model.add(Flatten())
    model.add(Dense(128, activation='relu'))
    model.add(Dropout(0.5))
    model.add(Dense(num_classes, activation='softmax'))

    model.compile(loss=keras.losses.categorical_crossentropy,
                  optimizer=keras.optimizers.Adam(),
                  metrics=['accuracy'])
    history = model.fit(x_train, y_train,
                        batch_size=32,
                        epochs=2,
                        verbose=0,
                        validation_data=(x_test, y_test))
    score = model.evaluate(x_test, y_test, verbose=0)
    classes = model.predict(x_test)
    """,
        x_train=images.train_images[:320],
        y_train=images.train_labels[:320],
        x_test=images.test_images[:100],
        y_test=images.test_labels[:100],
    )
    history, score = made["history"].history, made["score"]
    assert made["model"].output_shape == (None, 10)
    assert made["model"].count_params() == 1_199_882  # the figure that Keras prints
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(history)
    assert history["loss"][1] < history["loss"][0]
    assert score == pytest.approx([history["val_loss"][1], history["val_accuracy"][1]])
    assert made["classes"].shape == (100, 10) and made["classes"].dtype == np.float32
    np.testing.assert_allclose(made["classes"].sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("given", ["uint8 images", "floats"])
def test_early_stopping(images, given):
    made = run(
        IMPORTS
        + """
    from keras.callbacks import EarlyStopping
    """
        + NETWORK
        + """
    early_stopping = EarlyStopping(monitor='val_loss',
                                   patience=2)

    history = model.fit(X, y, validation_split=0.2, epochs=60, verbose=0,
               callbacks=[early_stopping])
    """,
        X=images.train_images if given == "uint8 images" else images.train_images / np.float32(255),
        y=images.train_labels,
    )
    losses = made["history"].history["val_loss"]
    assert 3 <= len(losses) < 60, "400 images are learnt by heart long before"
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + 2, "two epochs without improvement, then the end"
    assert made["early_stopping"].stopped_epoch == len(losses) - 1


def test_step_decay(images):
    made = run(
        IMPORTS
        + """
    from keras.callbacks import LearningRateScheduler
    """
        + NETWORK
        + """
    def step_decay(epoch) :
        lrate = 0.1
        if epoch > 100:
            lrate = 0.1 / (2. ** epoch)
        return lrate

    lr = LearningRateScheduler(step_decay)
    callbacks_list = [lr]
    history = model.fit(X, y, epochs=103, initial_epoch=99, verbose=0, callbacks=callbacks_list)
    """,
        X=images.train_images[:64],
        y=images.train_labels[:64],
    )
    assert made["history"].epoch == [99, 100, 101, 102]
    assert made["history"].history["lr"] == [0.1, 0.1, 0.1 / 2.0**101, 0.1 / 2.0**102]


REDUCE = """
    reduce_lr = ReduceLROnPlateau(monitor='val_loss',
                                   factor=0.2,
                                   patience=5,
                                   min_lr=0.001)
"""


def test_reduce_on_plateau(images):
    made = run(
        IMPORTS
        + """
    from keras.callbacks import ReduceLROnPlateau
    """
        + NETWORK
        + REDUCE
        + """
    model.optimizer.learning_rate = 0.05
    history = model.fit(X_train, Y_train, validation_data=(X_val, Y_val), epochs=30, verbose=0,
                        callbacks=[reduce_lr])
    """,
        # Labels that cannot be learnt for the validation images: its loss can only rise.
        X_train=images.train_images[:64],
        Y_train=images.train_labels[:64],
        X_val=images.train_images[:64],
        Y_val=(images.train_labels[:64] + 1) % 10,
    )
    rates = made["history"].history["lr"]
    assert rates[0] == 0.05 and rates[-1] == 0.001
    steps = sorted({round(r, 9) for r in rates}, reverse=True)
    assert steps == [0.05, 0.01, 0.002, 0.001]
    counts = [sum(round(r, 9) == s for r in rates) for s in steps]
    assert counts[1] == counts[2] == 5, "patience epochs at each rate"


def test_reduce_on_plateau_as_printed_has_nothing_to_monitor(images):
    """The notes give fit no validation data: Keras warns and goes on, and so does gpukit."""
    program = (
        IMPORTS
        + "    from keras.callbacks import ReduceLROnPlateau\n"
        + NETWORK
        + REDUCE
        + """
    model.fit(X_train, Y_train, callbacks=[reduce_lr], verbose=0)
    rate = model.optimizer.learning_rate
    """
    )
    with pytest.warns(UserWarning, match="no 'val_loss' in the logs.*validation_split"):
        made = run(program, X_train=images.train_images[:64], Y_train=images.train_labels[:64])
    assert made["rate"] == 0.05


def test_regularised_dense_layer(images):
    made = run(
        """
    from keras import regularizers
    from keras.models import Sequential
    from keras.layers import Dense, Flatten

    model = Sequential([
        Flatten(input_shape=(28, 28, 1)),
        Dense(10, activation='relu',
              kernel_regularizer=regularizers.l2(0.01)),
    ])
    model.compile(optimizer='sgd', loss='mse')
    loss = model.evaluate(X, Y)
    """,
        X=images.train_images[:50],
        Y=np.eye(10, dtype=np.float32)[images.train_labels[:50]],
    )
    model = made["model"]
    kernel = model.get_weights()[0].astype(np.float64)
    outputs = model.predict(images.train_images[:50]).astype(np.float64)
    error = ((outputs - np.eye(10)[images.train_labels[:50]]) ** 2).mean()
    assert made["loss"] == pytest.approx(error + 0.01 * (kernel**2).sum(), rel=1e-5)


# Every printed argument has its effect


def test_printed_signature_of_conv2d():
    """keras.layers.convolutional.Conv2D(filters, kernel_size, strides=(1, 1), …): the defaults."""
    made = run(
        """
    from keras.layers import conv as convolutional
    filters, kernel_size = 6, (3, 5)
    layer = convolutional.Conv2D(filters,
        kernel_size, strides=(1, 1), padding='valid',
        activation=None, use_bias=True,
        kernel_regularizer=None, bias_regularizer=None)
    named = convolutional.Conv2D(filters=6, kernel_size=3, padding='same', name='c')
    """
    )
    layer, plain = made["layer"], Conv2D(6, (3, 5))
    assert layer.get_config() == plain.get_config()
    x = np.random.default_rng(0).normal(size=(2, 7, 9, 3)).astype(np.float32)
    y = layer(x).numpy()
    kernel, bias = layer.get_weights()
    assert kernel.shape == (3, 5, 3, 6) and bias.tolist() == [0] * 6
    by_hand = np.zeros((2, 5, 5, 6))
    for r in range(3):
        for s in range(5):
            by_hand += x[:, r : r + 5, s : s + 5].astype(np.float64) @ kernel[r, s]
    np.testing.assert_allclose(y, by_hand, atol=1e-5)
    assert made["named"](x).shape == (2, 7, 9, 6)


def conv(**settings):
    layer = Conv2D(4, 3, kernel_initializer=lambda s, d, r: r.normal(size=s), **settings)
    layer.build((None, 8, 8, 2), dtype="float64", rng=np.random.default_rng(1))
    return layer


def test_arguments_of_conv2d_change_the_output():
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 2))
    plain = conv()(x).numpy()
    assert plain.shape == (2, 6, 6, 4)
    np.testing.assert_allclose(conv(strides=(2, 3))(x).numpy(), plain[:, ::2, ::3], rtol=1e-12)
    same = conv(padding="same")(x).numpy()
    np.testing.assert_allclose(same[:, 1:-1, 1:-1], plain, rtol=1e-12)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    np.testing.assert_allclose(same, conv()(padded).numpy(), rtol=1e-12)
    for name, function in (("relu", lambda z: np.maximum(z, 0)), ("tanh", np.tanh)):
        np.testing.assert_allclose(conv(activation=name)(x).numpy(), function(plain), rtol=1e-12)
    biased = conv(bias_initializer="ones")
    np.testing.assert_allclose(biased(x).numpy(), plain + 1, rtol=1e-9)
    assert [p.name for p in conv(use_bias=False).parameters] == ["conv2d/kernel"]


def after_one_step(layer, x, y):
    """(loss before, kernel and bias before, kernel and bias after) of one step of plain SGD."""
    model = Sequential([layer], dtype="float64", seed=3)
    model.compile("sgd", "mse")
    model.build((None, *x.shape[1:]))
    before = [w.copy() for w in model.get_weights()]
    return model.train_on_batch(x, y), before, model.get_weights()


@pytest.mark.parametrize("make", [Conv2D, Dense])
def test_regularizers_and_constraints_act_in_training(make):
    """Loss and weights after a step, each against the plain layer and the penalty's derivative."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 6, 6, 2)) if make is Conv2D else rng.normal(size=(4, 5))
    y = rng.normal(size=(4, 4, 4, 3) if make is Conv2D else (4, 3))
    rate = 0.01

    def step(**settings):
        layer = make(3, 3, **settings) if make is Conv2D else make(3, **settings)
        return after_one_step(layer, x, y)

    loss, before, plain = step(bias_initializer="ones")
    kernel, bias = before

    got, same, after = step(bias_initializer="ones", kernel_regularizer="l2")
    np.testing.assert_array_equal(same[0], kernel)
    assert got == pytest.approx(loss + 0.01 * (kernel**2).sum())
    np.testing.assert_allclose(after[0], plain[0] - rate * 0.02 * kernel, rtol=1e-9)
    np.testing.assert_array_equal(after[1], plain[1])

    got, _, after = step(bias_initializer="ones", bias_regularizer="l1")
    assert got == pytest.approx(loss + 0.01 * np.abs(bias).sum())
    np.testing.assert_allclose(after[1], plain[1] - rate * 0.01 * np.sign(bias), rtol=1e-9)

    model = Sequential([make(3, 3) if make is Conv2D else make(3)], dtype="float64", seed=3)
    model.build((None, *x.shape[1:]))
    model.layers[0].set_weights(before)
    outputs = model(x).numpy()
    got, _, after = step(bias_initializer="ones", activity_regularizer="l2")
    assert got == pytest.approx(loss + 0.01 * (outputs**2).sum() / 4)
    # d(activity)/d(bias): twice the outputs, summed over all but the channels, over the batch
    slope = 0.01 * 2 * outputs.reshape(-1, 3).sum(axis=0) / 4
    np.testing.assert_allclose(after[1], plain[1] - rate * slope, rtol=1e-9)

    _, _, after = step(kernel_constraint="non_neg")
    _, _, free = step()
    np.testing.assert_array_equal(after[0], np.maximum(free[0], 0))
    assert (free[0] < 0).any()
    np.testing.assert_array_equal(after[1], free[1])
    _, _, after = step(bias_constraint="non_neg")
    assert (free[1] < 0).any()
    np.testing.assert_array_equal(after[1], np.maximum(free[1], 0))


def test_printed_signature_of_dense():
    made = run(
        """
    from keras.layers import dense as core
    units = 4
    layer = core.Dense(units, activation=None,
        kernel_regularizer=None, bias_regularizer=None,
        activity_regularizer=None, kernel_constraint=None,
        bias_constraint=None)
    """
    )
    assert made["layer"].get_config() == Dense(4).get_config()
    assert made["layer"].activation is None, "the notes: default is linear!"


# What fit, evaluate and predict give


def network(metrics=("accuracy",), **settings):
    model = Sequential([Dense(3, activation="softmax", input_shape=(5,))], seed=1, **settings)
    model.compile("sgd", "sparse_categorical_crossentropy", list(metrics))
    return model


def samples(count=20):
    rng = np.random.default_rng(2)
    return rng.normal(size=(count, 5)).astype(np.float32), rng.integers(0, 3, count)


def test_validation_is_the_end_of_the_data():
    x, y = samples()
    model, same = network(), network()
    split = model.fit(x, y, validation_split=0.2, epochs=2, verbose=0).history
    given = same.fit(x[:16], y[:16], validation_data=(x[16:], y[16:]), epochs=2, verbose=0).history
    for key in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert split[key] == given[key]
    np.testing.assert_array_equal(model.get_weights()[0], same.get_weights()[0])


def test_history():
    x, y = samples()
    history = network().fit(x, y, epochs=3, verbose=0)
    assert history.epoch == [0, 1, 2]
    assert set(history.history) == {"loss", "accuracy", "lr", "seconds"}
    assert all(len(values) == 3 for values in history.history.values())
    assert all(type(v) is float for v in history.history["loss"] + history.history["accuracy"])


@pytest.mark.parametrize(("verbose", "lines"), [(0, 0), (1, 2), (2, 2), ("auto", 2)])
def test_verbose(capsys, verbose, lines):
    x, y = samples()
    network().fit(x, y, epochs=2, verbose=verbose)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == lines  # no terminal here, so no bar
    assert all("loss" in line and "accuracy" in line for line in shown.err.splitlines())


def test_evaluate_and_predict():
    x, y = samples()
    model = network()
    probabilities = model.predict(x, verbose=0)
    assert probabilities.shape == (20, 3) and isinstance(probabilities, np.ndarray)
    loss = -np.log(probabilities[np.arange(20), y].astype(np.float64)).mean()
    accuracy = (probabilities.argmax(axis=1) == y).mean()
    assert model.evaluate(x, y) == pytest.approx([loss, accuracy], rel=1e-5)
    assert model.evaluate(x, y, batch_size=7) == pytest.approx([loss, accuracy], rel=1e-5)
    assert model.evaluate(x, y, return_dict=True) == pytest.approx(
        {"loss": loss, "accuracy": accuracy}, rel=1e-5
    )
    alone = network(metrics=())
    assert type(alone.evaluate(x, y)) is float
    np.testing.assert_allclose(model.predict(x, batch_size=3), probabilities, rtol=1e-6)
    assert model.predict(x[:0]).shape == (0, 3)


def test_labels_may_be_columns_or_one_hot():
    x, y = samples()
    expected = network().evaluate(x, y)
    assert network().evaluate(x, y[:, None]) == pytest.approx(expected)
    model = network()
    model.compile("sgd", "categorical_crossentropy", ["acc"])
    assert model.evaluate(x, np.eye(3)[y]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("optimizer", "loss", "metrics"),
    [
        ("adam", "categorical_crossentropy", ["accuracy", "top_2_accuracy"]),
        ("rmsprop", "mse", ["acc"]),
        ("Adagrad", "binary_crossentropy", ["mse"]),
    ],
)
def test_compile_by_names_and_by_objects(optimizer, loss, metrics):
    from gpukit import losses, optimizers
    from gpukit import metrics as family

    x, y = samples()
    y = np.eye(3, dtype=np.float32)[y]
    figures = []
    for chosen in (
        (optimizer, loss, metrics),
        (optimizers.get(optimizer), losses.get(loss), [family.get(m) for m in metrics]),
        (type(optimizers.get(optimizer))(), type(losses.get(loss))(), metrics),
    ):
        model = network()
        model.compile(*chosen)
        model.fit(x, y, epochs=2, verbose=0)
        figures.append(model.evaluate(x, y))
    assert figures[0] == figures[1] == figures[2]
    assert len(figures[0]) == 1 + len(metrics)


def test_one_metric_and_one_callback_need_no_list():
    from gpukit.callbacks import EarlyStopping

    x, y = samples()
    model = network()
    model.compile("sgd", "sparse_categorical_crossentropy", metrics="accuracy")
    history = model.fit(
        x, y, epochs=9, verbose=0, callbacks=EarlyStopping("loss", min_delta=9, patience=1)
    )
    assert len(history.history["accuracy"]) == 2
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=None)
    assert type(model.evaluate(x, y)) is float


def test_own_functions_as_loss_and_callbacks_of_ones_own():
    from gpukit.callbacks import Callback

    def absolute_error(y_true, y_pred):
        return ops.mean(ops.absolute(y_pred - y_true), axis=-1)

    class Count(Callback):
        batches = 0

        def on_train_batch_end(self, batch, logs=None):
            self.batches += 1
            assert logs["loss"] > 0

    x, _ = samples()
    model = Sequential([Dense(2, input_shape=(5,))], seed=1)
    model.compile("sgd", absolute_error)
    counter = Count()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        history = model.fit(
            x, np.ones((20, 2), np.float32), batch_size=8, epochs=20, verbose=0, callbacks=[counter]
        )
    assert counter.batches == 60
    assert history.history["loss"][-1] < history.history["loss"][0]
