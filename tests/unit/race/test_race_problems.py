"""Layer tables, operations and bytes, against published figures and counts by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from small_calls import RACED, SIZES, small

from gpukit.dispatch.primitive import registry
from gpukit.errors import GpukitError
from gpukit.race.problems import form_of, passes, problem, problems
from gpukit.race.tables import NETWORKS
from gpukit.verify.coverage import primitives

# Multiply-adds of all convolutions for one image, and their weights without biases, as published
# for AlexNet with two columns, VGG-16 (table 2 less the dense layers) and ResNet-50.
PUBLISHED = {
    "alexnet": (5, 665_784_864, 2_332_704),
    "vgg16": (13, 15_346_630_656, 14_710_464),
    "resnet50": (53, 4_087_136_256, 23_454_912),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_networks_have_their_published_sizes(name):
    layers = problems("conv2d", name, batch=1)
    counts = [p.count for p in layers]
    products = sum(p.flop // 2 * n for p, n in zip(layers, counts))
    weights = sum(weights_of(p) * n for p, n in zip(layers, counts))
    assert (sum(counts), products, weights) == PUBLISHED[name]
    assert len({p.sizes for p in layers}) == len(layers)


# Parameters, as published: of AlexNet in two columns, of VGG-16, of ResNet-50 and MobileNet with
# their normalisation, of LeNet-5 with its full table of maps.
PARAMETERS = {
    "alexnet": 60_965_224,
    "vgg16": 138_357_544,
    "resnet50": 25_557_032,
    "lenet5": 61_706,
    "mobilenet": 4_231_976,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_networks_have_their_published_parameters(name):
    (made,) = problems("sgd_update", name, batch=8)
    assert made.sizes == (PARAMETERS[name],)


def test_every_primitive_is_raced_or_the_reason_is_said():
    known = {name: made.declaration for name, made in primitives().items()}
    unraced = {name for name, declared in known.items() if declared and declared.unraced}
    assert set(RACED) | unraced == set(primitives())
    assert not set(RACED) & unraced


def weights_of(made):
    _, _, _, c, k, r, s, _, _, groups = made.sizes
    return r * s * c // groups * k


def test_layers_follow_from_one_another():
    """The inputs of a network's pools and normalisations are outputs of its convolutions."""
    for network in NETWORKS.values():
        maps = {layer.sizes for layer in network.maps}
        assert {layer.sizes[:3] for layer in network.max_pools} <= maps
        assert {layer.sizes for layer in network.responses + network.global_pools} <= maps
        assert network.denses[0].sizes[0] % network.maps[-1].sizes[2] == 0


def test_batches_count():
    one, many = (problems("conv2d", "alexnet", batch=n)[0] for n in (1, 5))
    assert many.sizes[0] == 5
    assert many.flop == 5 * one.flop


@pytest.mark.parametrize(
    "sizes",
    [
        (1, 7, 9, 2, 4, 3, 2, 2, 1, 2),
        (2, 3, 3, 1, 1, 5, 5, 1, 2, 1),
        (1, 9, 8, 2, 2, 1, 1, 3, 0, 1),
        (1, 2, 2, 1, 1, 3, 3, 1, 3, 1),
    ],
)
def test_operations_and_bytes_of_convolution_by_hand(sizes):
    n, h, w, c, k, r, s, stride, pad, groups = sizes
    p, q = (h + 2 * pad - r) // stride + 1, (w + 2 * pad - s) // stride + 1
    all_products = real = 0
    seen = set()
    for i, j, a, b in itertools.product(range(p), range(q), range(r), range(s)):
        y, x = i * stride - pad + a, j * stride - pad + b
        all_products += 1
        if 0 <= y < h and 0 <= x < w:
            real += 1
            seen.add((y, x))
    depth = c // groups
    weights = r * s * depth * k
    for primitive in ("conv2d", "conv2d_input_grad", "conv2d_weight_grad"):
        made = problem(primitive, sizes)
        assert made.flop == 2 * n * k * depth * all_products
        assert made.least_flop == 2 * n * k * depth * real
    forward, by_input, by_weight = (
        problem(f"conv2d{g}", sizes) for g in ("", "_input_grad", "_weight_grad")
    )
    x, y = n * len(seen) * c, n * p * q * k
    assert (forward.read, forward.written) == (4 * (x + weights + k), 4 * y)
    assert (by_input.read, by_input.written) == (4 * (y + weights), 4 * n * h * w * c)
    assert (by_weight.read, by_weight.written) == (4 * (x + y), 4 * weights)
    assert (forward.length, by_weight.length) == (r * s * depth, n * p * q)


@pytest.mark.parametrize("primitive", RACED)
def test_bytes_are_those_of_arguments_and_results(primitive):
    """Where every pixel is seen, arguments and results as they are, each once."""
    sizes = small(primitive)
    if form_of(primitive).name == "conv":
        sizes = (2, 5, 6, 4, 6, 3, 2, 1, 1, 2)
    if form_of(primitive).name == "pool":
        sizes = (2, 6, 8, 3, 3, 2, 1, 1)
    made = problem(primitive, sizes)
    arrays = made.arrays(3)
    results = registry[primitive].reference(*made.passed(arrays), **made.settings)
    if made.in_place:
        results = tuple(arrays[i] for i in made.in_place)
    results = results if isinstance(results, tuple) else (results,)
    assert made.read == sum(a.nbytes for a in arrays)
    assert made.written == sum(np.asarray(r, r.dtype).nbytes for r in results)
    assert 0 < made.least_flop <= made.flop


def test_the_same_seed_makes_the_same_numbers():
    made = problem("conv2d", SIZES["conv"])
    one, same, other = (made.arrays(seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, same))
    assert not any(np.array_equal(a, b) for a, b in zip(one, other))


def test_sizes_left_out_are_the_plain_ones():
    assert problem("conv2d", (1, 5, 5, 2, 3, 3, 3)).sizes == (1, 5, 5, 2, 3, 3, 3, 1, 0, 1)
    assert problem("max_pool2d", (1, 4, 4, 2, 2, 2, 2)).sizes[-1] == 0


@pytest.mark.parametrize(
    ("primitive", "chosen", "found"),
    [
        ("conv2d", None, ["conv2d"]),
        ("conv2d", "all", ["conv2d", "conv2d_input_grad", "conv2d_weight_grad"]),
        ("dense", "weight", ["dense_weight_grad"]),
        ("lrn", "all", ["lrn", "lrn_grad"]),
        ("relu", "input", ["relu_grad"]),
        ("add", "all", ["add"]),
        ("softmax_grad", None, ["softmax_grad"]),
    ],
)
def test_passes(primitive, chosen, found):
    assert passes(primitive, chosen) == found


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: passes("conv2", None), "did you mean conv2d"),
        (lambda: passes("reshape", None), "reshape cannot be raced: its result is a view"),
        (lambda: passes("adam_updates", None), "cannot be raced: did you mean adam_update"),
        (lambda: problems("reduce_sum", "5,7,2", None), "axis = 2: use sizes from 0 to 1"),
        (lambda: passes("relu", "weight"), "use forward, input or all"),
        (lambda: passes("relu_grad", "all"), "leave --pass out"),
        (
            lambda: problems("conv2d", "lenet", 1),
            "use alexnet, vgg16, resnet50, lenet5, mobilenet, or sizes",
        ),
        (lambda: problems("conv2d", "1,2,3", None), "N,H,W,C,K,R,S,stride,pad,groups"),
        (lambda: problems("conv2d", "1,5,5,3,4,3,3,1,0,2", None), "do not divide into groups"),
        (lambda: problems("conv2d", "1,2,2,3,4,3,3", None), "larger than 2×2"),
        (lambda: problems("conv2d", "1,5,5,3,4,3,0", None), "S = 0"),
        (lambda: problems("max_pool2d", "1,5,5,3,2,2,2,2", None), "padding 2"),
        (lambda: problems("lrn", "vgg16", 1), "vgg16 has no layer for lrn; use alexnet, N,H,W,C"),
        (lambda: problems("batch_norm", "alexnet", 1), "use resnet50"),
        (lambda: problems("relu", "1,2,2,3", 4), "sizes begin with N"),
    ],
)
def test_what_cannot_be_raced_is_refused_with_the_way_out(call, words):
    with pytest.raises(GpukitError, match=words):
        call()


def test_every_primitive_has_layers_somewhere():
    assert all(problems(primitive, None, 1) for primitive in RACED)


def test_windows_as_large_as_sizes_may_be_are_counted_without_going_through_their_cells():
    half, whole = 1 << 19, 1 << 20
    made = problem("conv2d", (1, whole, 1, 1, 1, half, 1, 1, 0, 1))
    assert made.flop == made.least_flop == 2 * half * (half + 1)
    assert made.read == 4 * (whole + half + 1)  # every pixel once, the kernel, the bias
