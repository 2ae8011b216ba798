"""fit, evaluate and predict take batches of other kinds than feeds, or refuse them at once."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from gpukit import layers, utils
from gpukit.callbacks import LambdaCallback
from gpukit.data import ArrayFeed
from gpukit.errors import CheckpointError, DataError, GpukitError, SettingError
from gpukit.models import Sequential
from gpukit.training import loop
from gpukit.training.state import TrainingState

RNG = np.random.default_rng(5)
X = RNG.standard_normal((24, 5)).astype(np.float32)
Y = RNG.integers(0, 3, 24)
BATCHES = [(X[i : i + 8], Y[i : i + 8]) for i in range(0, 24, 8)]


def make():
    model = Sequential([layers.Dense(3, activation="softmax")], device="cpu", seed=3)
    model.compile("sgd", "sparse_categorical_crossentropy", ["accuracy"])
    return model


class Numbered(utils.PyDataset):
    """Keras's way: batch i as [i]; notes what is called."""

    def __init__(self, batches=BATCHES):
        super().__init__()
        self.batches, self.calls = batches, []

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        self.calls.append(index)
        return self.batches[index]

    def on_epoch_end(self):
        self.calls.append("end")


class Plain:
    """No base class and no hook."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return BATCHES[index]


class Loader:
    """What can be iterated over and over, as a DataLoader can."""

    def __init__(self, batches=BATCHES):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)


def forever(batches=BATCHES):
    while True:
        yield from batches


KINDS = {
    "PyDataset": Numbered,
    "object": Plain,
    "list": lambda: list(BATCHES),
    "loader": Loader,
    "generator": forever,
}


def steps(name):
    return {"steps_per_epoch": 3} if name == "generator" else {}


@pytest.mark.parametrize("name", KINDS)
def test_batches_train_as_the_arrays_in_their_order_do(name):
    arrays, batches = make(), make()
    expected = arrays.fit(X, Y, 8, epochs=3, shuffle=False, verbose=0, validation_data=(X, Y))
    held = {"validation_data": KINDS[name](), **({"validation_steps": 3} if steps(name) else {})}
    found = batches.fit(KINDS[name](), epochs=3, shuffle=False, verbose=0, **steps(name), **held)
    for ours, theirs in zip(arrays.get_weights(), batches.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for figure in ("loss", "accuracy", "val_loss", "val_accuracy"):
        np.testing.assert_allclose(found.history[figure], expected.history[figure], rtol=1e-6)


@pytest.mark.parametrize("name", KINDS)
def test_evaluate_and_predict_take_the_same(name):
    model = make()
    given = {"steps": 3} if name == "generator" else {}
    np.testing.assert_allclose(
        model.evaluate(KINDS[name](), **given), model.evaluate(X, Y), rtol=1e-6
    )
    np.testing.assert_array_equal(model.predict(KINDS[name](), **given), model.predict(X))
    np.testing.assert_array_equal(model.predict(KINDS[name](), steps=1), model.predict(X[:8]))


def test_predict_takes_batches_without_targets():
    model = make()
    np.testing.assert_array_equal(model.predict((x for x, _ in BATCHES), steps=3), model.predict(X))


def test_the_hook_is_called_after_each_epoch_and_the_order_is_drawn():
    data = Numbered()
    make().fit(data, epochs=4, verbose=0)
    assert data.calls[0] == 0  # looked at
    epochs = [data.calls[1 + 4 * i : 5 + 4 * i] for i in range(4)]
    assert all(sorted(epoch[:3]) == [0, 1, 2] and epoch[3] == "end" for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    again = Numbered()
    make().fit(again, epochs=4, verbose=0)
    assert again.calls == data.calls


def test_every_batch_of_a_stream_is_trained_on_once():
    given = []

    def noted():
        for number in range(6):
            given.append(number)
            yield BATCHES[number % 3]

    make().fit(noted(), steps_per_epoch=2, epochs=3, verbose=0)
    assert given == list(range(6))


@pytest.mark.parametrize("name", ["PyDataset", "loader", "list", "feed"])
def test_shorter_epochs_go_on_where_the_last_one_stopped(name):
    source = ArrayFeed(X, Y, 8, shuffle=False) if name == "feed" else KINDS[name]()
    short, whole = make(), make()
    short.fit(source, steps_per_epoch=2, epochs=3, shuffle=False, verbose=0)
    whole.fit(X, Y, 8, epochs=2, shuffle=False, verbose=0)
    for ours, theirs in zip(short.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_steps_per_epoch_cuts_epochs_of_arrays():
    model = make()
    history = model.fit(X, Y, 8, steps_per_epoch=2, epochs=3, verbose=0, validation_split=0.25)
    assert len(history.history["loss"]) == 3 and model.training_state.epoch == 3
    with pytest.raises(SettingError, match="validation_steps is for validation_data"):
        model.fit(X, Y, validation_steps=1)


def test_pytorch_loaders_and_data_sets_work_without_an_import_of_pytorch():
    torch = pytest.importorskip("torch")
    from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

    samples = TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    expected = make()
    expected.fit(X, Y, 8, epochs=2, shuffle=False, verbose=0)
    loader, samples_alone = make(), make()
    loader.fit(DataLoader(samples, batch_size=8), epochs=2, verbose=0)
    samples_alone.fit(samples, batch_size=8, epochs=2, shuffle=False, verbose=0)
    for model in (loader, samples_alone):
        for ours, theirs in zip(model.get_weights(), expected.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    shuffled, arrays = make(), make()
    shuffled.fit(samples, batch_size=8, epochs=2, verbose=0)
    arrays.fit(X, Y, 8, epochs=2, verbose=0)
    np.testing.assert_array_equal(shuffled.get_weights()[0], arrays.get_weights()[0])
    np.testing.assert_array_equal(expected.predict(samples), expected.predict(X))

    class Pairs(Dataset):
        """One-hot targets, whose length might be taken for that of a batch."""

        def __len__(self):
            return 24

        def __getitem__(self, index):
            return torch.from_numpy(X[index, :3]), torch.eye(3)[Y[index]].requires_grad_()

    model = Sequential([layers.Dense(3, activation="softmax")], device="cpu", seed=3)
    model.compile("sgd", "categorical_crossentropy")
    model.fit(Pairs(), batch_size=8, verbose=0)
    assert model.input_shape == (None, 3)

    class Endless(IterableDataset):
        def __iter__(self):
            return zip(X, Y)

    with pytest.raises(DataError, match=r"Endless gives samples.*DataLoader.*data\.Feed"):
        model.fit(Endless())
    made = make()
    made.fit(DataLoader(Endless(), batch_size=8), steps_per_epoch=3, epochs=2, verbose=0)
    np.testing.assert_array_equal(made.get_weights()[0], expected.get_weights()[0])


@pytest.mark.parametrize(
    "source",
    [object(), 5, None, "train/", {"x": X, "y": Y}, {1, 2}, lambda: BATCHES],
    ids=lambda source: type(source).__name__,
)
def test_what_gives_no_batches_is_refused_at_once(source):
    model = make()
    for call in (model.fit, model.evaluate, model.predict):
        with pytest.raises(DataError, match=r"data\.Feed"):
            call(source)


class Hungry:
    """An object whose items never end, where NumPy asks for them all."""

    def __len__(self):
        return 2**40

    def __getitem__(self, index):
        if index > 2:
            raise AssertionError("went on asking for items")
        return BATCHES[index]


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.fit(Hungry(), Y),
        lambda m: m.fit(X, Hungry()),
        lambda m: m.fit(X, Y, validation_data=(Hungry(), Y)),
        lambda m: m.evaluate(X, Hungry()),
        lambda m: m.train_on_batch(Hungry(), Y),
        lambda m: m.train_on_batch(X, Hungry()),
    ],
)
def test_no_array_is_made_of_an_object_of_items(call):
    with pytest.raises(GpukitError):
        call(make())


@pytest.mark.parametrize(
    "item, message",
    [
        (X[:8], r"give a batch \(x, y\)"),
        ((X[:8], Y[:7]), r"x \(8, 5\) and y \(7,\)"),
        ((X[:0], Y[:0]), "above 0"),
        (("cat", "dog"), "an array of numbers"),
        (([X[:8], X[:8]], Y[:8]), "list of arrays"),
        ({"image": X[:8]}, r"give a batch \(x, y\)"),
    ],
)
def test_a_batch_of_another_kind_is_named(item, message):
    for data in (Numbered([item]), Loader([item])):
        with pytest.raises(DataError, match=rf"fit: batch 0 of {type(data).__name__}.*{message}"):
            make().fit(data, verbose=0)


def test_streams_say_what_they_lack():
    model = make()
    with pytest.raises(DataError, match=r"has no length.*steps_per_epoch=….*data\.Feed"):
        model.fit(forever())
    with pytest.raises(DataError, match=r"validation_data: generator.*validation_steps"):
        model.fit(X, Y, validation_data=forever())
    with pytest.raises(DataError, match=r"evaluate: generator has no length.* steps="):
        model.evaluate(forever())
    with pytest.raises(DataError, match="ended after 1 of 2 batches"):
        model.fit(iter(BATCHES), steps_per_epoch=2, epochs=2, verbose=0)
    with pytest.raises(DataError, match="list_iterator gives no batch"):
        model.fit(iter([]), steps_per_epoch=2)
    with pytest.raises(SettingError, match="brings its targets"):
        model.fit(forever(), Y, steps_per_epoch=2)
    with pytest.raises(DataError, match="Numbered is empty"):
        model.fit(Numbered([]))
    with pytest.raises(SettingError, match="workers=4"):
        utils.PyDataset(workers=4)


def fit(model, source, state, stop=None, **settings):
    """Train for three epochs; `stop` is the (epoch, batch) before which training ends."""

    def stop_training(batch, logs):
        if (state.epoch, batch + 1) == stop:
            model.stop_training = True

    callbacks = [LambdaCallback(on_train_batch_end=stop_training)]
    settings = {"epochs": 3, "verbose": 0, "callbacks": callbacks, **settings}
    loop.fit(model, source, state=state, **settings)


@pytest.mark.parametrize("name", ["PyDataset", "list", "loader"])
def test_what_can_return_to_a_batch_resumes_there(name):
    whole, stopped = make(), make()
    fit(whole, KINDS[name](), TrainingState())
    state = TrainingState()
    with pytest.MonkeyPatch.context() as patch:
        # An epoch that is stopped is finished; one that is interrupted is not.
        patch.setattr(TrainingState, "finish_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(stopped, KINDS[name](), state, stop=(1, 2))
    assert (state.epoch, state.batch) == (1, 2)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fit(stopped, KINDS[name](), state)
    assert [str(w.message) for w in said if "skipped 2 batches of Loader" in str(w.message)] or (
        name != "loader"
    )
    np.testing.assert_array_equal(whole.get_weights()[0], stopped.get_weights()[0])
    with pytest.raises(CheckpointError, match="data are not those that training began with"):
        fit(stopped, KINDS[name](BATCHES[:2]) if name != "list" else BATCHES[:2], state, epochs=4)


def interrupted(state, logs):
    if state.batch == 2:
        raise KeyboardInterrupt
    state.history.append(logs)
    state.epoch, state.batch, state.sums = state.epoch + 1, 0, {}


def test_a_generator_cannot_return_to_a_batch_and_says_so():
    state = TrainingState(epoch=1, batch=2, feed={"batches": 3})
    with pytest.raises(CheckpointError, match=r"epoch 2 stopped after 2 batches.*data\.Feed"):
        fit(make(), forever(), state, steps_per_epoch=3)
    state = TrainingState(epoch=1, feed={"batches": 3})
    fit(make(), forever(), state, steps_per_epoch=3)
    assert state.epoch == 3
