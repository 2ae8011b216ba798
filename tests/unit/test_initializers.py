import json

import numpy as np
import pytest

from gpukit import initializers
from gpukit.errors import CheckpointError, SettingError, ShapeError

ALL = [
    initializers.Zeros(),
    initializers.Ones(),
    initializers.Constant(0.3),
    initializers.RandomNormal(1.0, 0.2),
    initializers.RandomUniform(-0.1, 0.3),
    initializers.GlorotUniform(),
    initializers.GlorotNormal(),
    initializers.HeNormal(),
    initializers.HeUniform(),
    initializers.HeNormal(truncated=False),
    initializers.LecunNormal(),
    initializers.LecunUniform(),
    initializers.TruncatedNormal(1.0, 0.2),
    initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
    initializers.Orthogonal(0.5),
]


def draw(initializer, shape, seed=0, dtype="float32", groups=1):
    return initializers.get(initializer)(shape, dtype, np.random.default_rng(seed), groups)


@pytest.mark.parametrize("initializer", ALL, ids=lambda i: type(i).__name__)
def test_shape_dtype_repeatability_and_config(initializer):
    again = initializers.get(json.loads(json.dumps(initializer.get_config())))
    for dtype in ("float32", "float64"):
        values = draw(initializer, (3, 4, 2, 5), dtype=dtype)
        assert values.shape == (3, 4, 2, 5) and values.dtype == dtype
        assert values.flags.c_contiguous
        np.testing.assert_array_equal(values, draw(again, (3, 4, 2, 5), dtype=dtype))


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("glorot_uniform", 2 / (300 + 200)),
        ("glorot_normal", 2 / (300 + 200)),
        ("he_uniform", 2 / 300),
        ("he_normal", 2 / 300),
        ("lecun_normal", 1 / 300),
        ("lecun_uniform", 1 / 300),
        ("variance_scaling", 1 / 300),
        (initializers.VarianceScaling(3.0, "fan_out", "uniform"), 3 / 200),
        (initializers.VarianceScaling(3.0, "fan_avg", "untruncated_normal"), 3 / 250),
        ("truncated_normal", (0.05 * 0.87962566) ** 2),
        ("random_normal", 0.05**2),
        ("random_uniform", 0.05**2 / 3),
    ],
)
def test_moments(name, variance):
    values = draw(name, (300, 200), dtype="float64")
    assert abs(values.mean()) < 4 * (variance / values.size) ** 0.5
    assert values.var() == pytest.approx(variance, rel=0.03)


def test_uniform_limit_is_that_of_the_notes():
    values = draw("glorot_uniform", (300, 200))
    limit = (6 / 500) ** 0.5
    assert 0.99 * limit < np.abs(values).max() <= limit


@pytest.mark.parametrize("name", ["he_normal", "glorot_normal", "lecun_normal"])
def test_normals_are_cut_at_two_deviations_of_what_is_drawn(name):
    values = draw(name, (300, 200), dtype="float64")
    deviation = values.std() / 0.87962566
    assert 1.9 * deviation < np.abs(values).max() <= 2.03 * deviation
    whole = draw(type(initializers.get(name))(truncated=False), (300, 200), dtype="float64")
    assert np.abs(whole).max() > 3.5 * whole.std()


def test_files_of_earlier_versions_draw_the_same_values():
    old = initializers.get({"class": "HeNormal"})
    expected = np.random.default_rng(5).normal(0.0, (2 / 12) ** 0.5, (12, 3))
    np.testing.assert_array_equal(draw(old, (12, 3), seed=5, dtype="float64"), expected)


def test_a_seed_gives_the_same_values_at_every_call():
    for make in (initializers.HeNormal, initializers.RandomUniform, initializers.Orthogonal):
        seeded = make(seed=3)
        np.testing.assert_array_equal(draw(seeded, (4, 5), seed=0), draw(seeded, (4, 5), seed=1))
        assert (draw(make(), (4, 5), seed=0) != draw(make(), (4, 5), seed=1)).any()


def test_orthogonal_and_identity():
    for shape in ((3, 3, 4, 8), (2, 9), (5, 5)):
        flat = draw(initializers.Orthogonal(2.0), shape, dtype="float64").reshape(-1, shape[-1])
        small = flat.T @ flat if flat.shape[0] >= flat.shape[1] else flat @ flat.T
        np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-12)
    np.testing.assert_array_equal(draw(initializers.Identity(3.0), (2, 3)), 3 * np.eye(2, 3))
    for name in ("orthogonal", "identity"):
        with pytest.raises(ShapeError, match="use"):
            draw(name, (3,))


def test_fans_of_kernels():
    assert initializers.fans((7, 9)) == (7, 9)
    assert initializers.fans((5, 5, 3, 10)) == (75, 250)
    # Two towers: each output sees half of the channels, each input feeds half of the filters.
    assert initializers.fans((5, 5, 48, 256), groups=2) == (1200, 3200)
    assert initializers.fans((4,)) == (4, 4)
    assert initializers.fans(()) == (1, 1)


def test_he_agrees_with_torch_for_groups():
    torch = pytest.importorskip("torch")
    weight = torch.empty(8, 2, 3, 3)
    fan_in, _ = torch.nn.init._calculate_fan_in_and_fan_out(weight)
    assert initializers.fans((3, 3, 2, 8), groups=4)[0] == fan_in


def test_names_functions_and_mistakes():
    assert isinstance(initializers.get("GlorotUniform"), initializers.GlorotUniform)
    assert isinstance(initializers.get(initializers.Zeros), initializers.Zeros)
    made = initializers.get(lambda shape, dtype, rng: np.full(shape, 3))
    assert (made((2, 2), "float32", np.random.default_rng(0)) == 3).all()
    wrong = initializers.get(lambda shape, dtype, rng: np.zeros(3))
    with pytest.raises(ShapeError, match="gave shape"):
        wrong((2, 2), "float32", np.random.default_rng(0))
    with pytest.raises(SettingError, match="unknown initializer 'glorot'"):
        initializers.get("glorot")
    with pytest.raises(SettingError, match="stddev=-1"):
        initializers.RandomNormal(stddev=-1)
    with pytest.raises(SettingError, match="minval=nan"):
        initializers.RandomUniform(minval=float("nan"))
    with pytest.raises(CheckpointError, match="unknown class"):
        initializers.get({"class": "os.system"})
