"""Users' own classes and functions in files: registered, given to load_model, or refused early."""

import numpy as np
import pytest

import gpukit
from gpukit import callbacks, models, ops
from gpukit.core.config import Family
from gpukit.errors import CheckpointError, SettingError
from gpukit.layers import Dense, Layer

X = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
Y = np.random.default_rng(1).normal(size=(8, 3)).astype("float32")


class Scale(Layer):
    def __init__(self, factor=2.0, **options):
        super().__init__(**options)
        self.factor = factor

    def get_config(self):  # as programs of Keras write it
        return {**super().get_config(), "factor": self.factor}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def call(self, inputs, training):
        return inputs * self.factor


class Cubic(gpukit.losses.Loss):
    def per_sample(self, y_true, y_pred):
        return ops.mean(ops.absolute(y_pred - y_true) ** 3, axis=1)


class Largest(gpukit.metrics.Metric):
    name = "largest"

    def update(self, y_true, y_pred):
        return float(np.max(y_pred)) * len(y_pred), len(y_pred)


class Halved(gpukit.optimizers.SGD):
    def __init__(self, learning_rate=0.1, **options):
        super().__init__(learning_rate, **options)

    def update(self, w, g, slots, rate):
        super().update(w, g, slots, rate / 2)


class Saw(gpukit.schedules.Schedule):
    def __init__(self, period=3):
        self.period = period

    def __call__(self, step):
        return 0.01 * (1 + step % self.period)


class Quarter(gpukit.initializers.Initializer):
    def draw(self, shape, rng, groups):
        return np.full(shape, 0.25)


class Flat(gpukit.regularizers.Regularizer):
    def __call__(self, x):
        return ops.sum(x * x) * 0.1


class Capped(gpukit.constraints.Constraint):
    def __call__(self, w):
        return np.minimum(w, 0.5)


def bent(x):
    return ops.maximum(x, x * 0.3)


def fourth(y_true, y_pred):
    return (y_pred - y_true) ** 4


def farthest(y_true, y_pred):
    return np.max(np.abs(y_pred - y_true), axis=1)


def ramp(shape, dtype, rng):
    return np.linspace(0, 1, int(np.prod(shape))).reshape(shape)


def gentle(x):
    return ops.sum(x * x) * 0.01


def shrunk(w):
    return w * 0.99


OWN = {
    "layer": (lambda: {"more": Scale(3.0)}, Scale),
    "loss": (lambda: {"loss": Cubic()}, Cubic),
    "metric": (lambda: {"metrics": [Largest()]}, Largest),
    "optimizer": (lambda: {"optimizer": Halved()}, Halved),
    "schedule": (lambda: {"optimizer": gpukit.optimizers.SGD(Saw(4))}, Saw),
    "initializer": (lambda: {"kernel_initializer": Quarter()}, Quarter),
    "regularizer": (lambda: {"kernel_regularizer": Flat()}, Flat),
    "constraint": (lambda: {"kernel_constraint": Capped()}, Capped),
    "activation function": (lambda: {"activation": bent}, bent),
    "loss function": (lambda: {"loss": fourth}, fourth),
    "metric function": (lambda: {"metrics": [farthest]}, farthest),
    "initializer function": (lambda: {"kernel_initializer": ramp}, ramp),
    "regularizer function": (lambda: {"kernel_regularizer": gentle}, gentle),
    "constraint function": (lambda: {"kernel_constraint": shrunk}, shrunk),
}
ROOMS = {
    "layer": gpukit.layers,
    "loss": gpukit.losses,
    "metric": gpukit.metrics,
    "optimizer": gpukit.optimizers,
    "schedule": gpukit.schedules,
    "initializer": gpukit.initializers,
    "regularizer": gpukit.regularizers,
    "constraint": gpukit.constraints,
    "activation": gpukit.layers,
}


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch):
    from gpukit.core import registry

    monkeypatch.setattr(registry, "_names", dict(registry._names))
    monkeypatch.setattr(registry, "_functions", dict(registry._functions))
    for room in ROOMS.values():
        family = room.register.__self__
        assert isinstance(family, Family)
        monkeypatch.setattr(family, "classes", dict(family.classes))
        monkeypatch.setattr(family, "aliases", dict(family.aliases))


def made(settings):
    compiled = {k: settings.pop(k) for k in ("optimizer", "loss", "metrics") if k in settings}
    more = [settings.pop("more")] if "more" in settings else []
    model = models.Sequential([Dense(3, input_shape=(4,), **settings), *more], seed=3)
    model.compile(**{"optimizer": "sgd", "loss": "mse", **compiled})
    return model


def trained(model):
    model.fit(X, Y, batch_size=4, epochs=2, verbose=0)
    return model


@pytest.mark.parametrize("kind", OWN)
def test_what_is_not_registered_is_refused_when_saving_or_training_begins(kind, tmp_path):
    settings, own = OWN[kind]
    model = made(settings())
    room = ROOMS[kind.split()[0]]
    with pytest.raises(SettingError, match=f"{own.__name__}.*@{room.__name__}.register"):
        model.save(tmp_path / "m.safetensors")
    before = model.get_weights()
    with pytest.raises(SettingError, match=own.__name__):
        model.fit(
            *(X, Y), verbose=0, callbacks=[callbacks.ModelCheckpoint(tmp_path / "c.safetensors")]
        )
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)
    model.save_weights(tmp_path / "w.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


@pytest.mark.parametrize("kind", OWN)
def test_what_is_registered_loads_and_goes_on_to_the_same_bits(kind, tmp_path):
    settings, own = OWN[kind]
    assert ROOMS[kind.split()[0]].register(own) is own
    model = trained(made(settings()))
    model.save(tmp_path / "m.safetensors")
    again = models.load_model(tmp_path / "m.safetensors")
    assert again.metrics_names == model.metrics_names
    for a, b in zip(trained(model).get_weights(), trained(again).get_weights()):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", OWN)
def test_custom_objects_stand_for_what_is_not_registered(kind, tmp_path):
    settings, own = OWN[kind]
    room = ROOMS[kind.split()[0]]
    with pytest.MonkeyPatch.context() as patch:
        from gpukit.core import registry

        for name in ("_names", "_functions"):
            patch.setattr(registry, name, dict(getattr(registry, name)))
        for name in ("classes", "aliases"):
            patch.setattr(room.register.__self__, name, dict(getattr(room.register.__self__, name)))
        room.register(own, name="theirs")
        model = trained(made(settings()))
        model.save(tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match=r"'theirs'.*custom_objects"):
        models.load_model(tmp_path / "m.safetensors")
    again = models.load_model(tmp_path / "m.safetensors", custom_objects={"theirs": own})
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


def test_a_registered_name_is_one_for_strings_too():
    @gpukit.losses.register(name="my_cubic")
    class Again(Cubic):
        pass

    gpukit.layers.register(bent)
    assert type(gpukit.losses.get("my_cubic")) is Again
    assert Dense(2, activation="bent").activation is bent
    for wrong, message in (
        (lambda: gpukit.losses.register(lambda t, y: y), "give name="),
        (lambda: gpukit.losses.register(Scale), "is no loss"),
        (lambda: gpukit.optimizers.register(bent), "optimizer is a class"),
        (lambda: gpukit.losses.register(Cubic, name="Hinge"), "gpukit has a loss named 'Hinge'"),
    ):
        with pytest.raises(SettingError, match=message):
            wrong()


def test_configurations_and_clones_have_the_same_layers_and_new_values():
    model = made({"more": Scale(3.0), "activation": bent, "kernel_initializer": Quarter()})
    clone = models.clone_model(model)
    assert clone.get_config() == model.get_config()
    assert clone.layers[1].factor == 3.0 and clone.layers[0].activation is bent
    assert clone.layers[0].kernel is not model.layers[0].kernel
    with pytest.raises(SettingError, match="compile"):
        clone.optimizer
    given = {"Scale": Scale, "bent": bent, "Quarter": Quarter}
    made_of = models.Sequential.from_config(model.get_config(), custom_objects=given)
    np.testing.assert_array_equal(made_of.predict(X), model.predict(X))


def test_weights_go_by_name(tmp_path):
    path = tmp_path / "w.safetensors"
    model = made({})
    model.save_weights(path)
    with pytest.raises(CheckpointError, match="exists"):
        model.save_weights(path, overwrite=False)
    other = models.Sequential([Dense(3, input_shape=(4,))], seed=8)
    other.load_weights(path)
    np.testing.assert_array_equal(other.predict(X), model.predict(X))
    wide = models.Sequential([Dense(5, input_shape=(4,)), Dense(2)], seed=8)
    before = wide.get_weights()
    with pytest.raises(CheckpointError, match=r"'dense/kernel' is \(4, 3\) there and \(4, 5\)"):
        wide.load_weights(path)
    with pytest.warns(UserWarning, match="0 of 4 .*dense/kernel"):
        wide.load_weights(path, skip_mismatch=True)
    for a, b in zip(before, wide.get_weights()):
        np.testing.assert_array_equal(a, b)
    first = models.Sequential([Dense(3, input_shape=(4,)), Dense(2, name="head")], seed=8)
    with pytest.warns(UserWarning, match="2 of 4 .*head/bias, head/kernel"):
        first.load_weights(path, skip_mismatch=True)
    np.testing.assert_array_equal(first.layers[0].kernel.numpy(), model.layers[0].kernel.numpy())


def test_parameters_are_saved_of_a_layer_that_cannot_describe_itself(tmp_path):
    class Silent(Layer):
        def __init__(self, units):
            super().__init__()

        def call(self, inputs, training):
            return inputs

    gpukit.layers.register(Silent)
    model = models.Sequential([Dense(3, input_shape=(4,)), Silent(3)])
    with pytest.raises(SettingError, match=r"Silent has no attribute 'units'.*self.units = units"):
        model.save(tmp_path / "m.safetensors")
    model.save_weights(tmp_path / "w.safetensors")
    model.load_weights(tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="parameters alone"):
        models.load_model(tmp_path / "w.safetensors")


def test_no_file_holds_code(tmp_path):
    path = tmp_path / "m.safetensors"
    made({}).save(path)
    with pytest.raises(SettingError, match="safe_mode=False"):
        models.load_model(path, safe_mode=False)
    with pytest.raises(SettingError, match="custom_objects"):
        models.load_model(path, custom_objects={"Scale": 3})
    with pytest.raises(SettingError, match="compile"):
        models.load_model(path, compile=False).optimizer


@gpukit.layers.register
class Wrapped(Layer):
    def __init__(self, body, **options):
        super().__init__(**options)
        self.body = body

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "body": gpukit.layers.from_config(config["body"])})

    def call(self, inputs, training):
        return self.body(inputs)


@gpukit.layers.register
class Widened(Layer):
    def __init__(self, units=4, **options):
        super().__init__(**options)
        self.units = units
        self.body = Dense(units)

    def call(self, inputs, training):
        return self.body(inputs)


def test_what_options_pass_on_is_in_files(tmp_path):
    own = [Widened(name="given", input_shape=(4,), trainable=False), Wrapped(Dense(5)), Widened(3)]
    made = models.Sequential(own)
    made.save(tmp_path / "own.safetensors")
    for found in (models.load_model(tmp_path / "own.safetensors"), models.clone_model(made)):
        assert [layer.name for layer in found.layers] == ["given", "wrapped", "widened"]
        assert [p.name for p in found.parameters] == [p.name for p in made.parameters]
        assert [layer.trainable for layer in found.layers] == [False, True, True]
    again = Widened.from_config(own[0].get_config())
    assert (again.name, again.trainable, again.units) == ("given", False, 4)


def test_a_name_that_a_model_gave_stays_in_files(tmp_path):
    base = models.Sequential([Widened(4, input_shape=(4,)), Widened(4)])
    moved = models.Sequential([base.layers[1]])
    moved.build((None, 4))
    moved.save(tmp_path / "moved.safetensors")
    found = models.load_model(tmp_path / "moved.safetensors")
    np.testing.assert_array_equal(found.predict(X), moved.predict(X))
