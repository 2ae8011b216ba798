"""Training for which memory does not suffice: one line that says what would fit, and it does."""

from __future__ import annotations

import random
import re

import pytest
from harness import count

CHUNKS = 2
PROGRAM = """
import resource
from gpukit.cli import main
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, ((pages << 12) + ({extra} << 20),) * 2)
main({arguments!r})
"""


def arguments(batch: int, *more: object) -> list[str]:
    given = ["train", "lenet5", "--limit", "4000", "--epochs", "1", "--validation-split", "0"]
    return [*given, "--batch-size", str(batch), "--quiet", *map(str, more)]


@pytest.fixture(scope="module")
def compiled(server, tmp_path_factory):
    """Functions are in the cache: what compiles them has no way on where memory ends."""
    folder = tmp_path_factory.mktemp("compiled")
    for batch in (500, 4000):
        program = PROGRAM.format(
            extra=4000, arguments=arguments(batch, "--out", folder / str(batch))
        )
        assert server(program=program, timeout=600).code == 0


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_training_without_enough_memory(commands, survived, tmp_path, chunk):
    for case in range(count(60, CHUNKS)):
        draw = random.Random(f"memory {chunk} {case}")
        extra, batch = draw.randint(1, 250), draw.choice([500, 1000, 2000, 4000])
        given = arguments(batch, "--out", tmp_path / str(case))
        outcome = commands(program=PROGRAM.format(extra=extra, arguments=given))
        survived("trainings that run out of memory", outcome, "memory", case=(chunk, case, extra))
        assert "Exception ignored" not in outcome.err, (chunk, case, extra, outcome.err)


FITTING = """
import resource
from gpukit import data, models
from gpukit.errors import OutOfMemoryError
images = data.load("fashion-mnist-small", limit=4000)
model = models.lenet5(seed=0, device="cpu")
model.compile("sgd", "sparse_categorical_crossentropy", ["accuracy"])
x, y = images.train_images, images.train_labels
model.fit(x[:64], y[:64], verbose=0)  # threads and compiled functions take their own
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, ((pages << 12) + (100 << 20),) * 2)
try:
    model.fit(x, y, batch_size={batch}, accumulate={parts}, verbose=0)
except OutOfMemoryError as error:
    print(error)
    raise SystemExit(2)
"""


@pytest.mark.usefixtures("compiled")
def test_what_is_offered_fits(commands, survived):
    def fit(batch, parts=1):
        # Of several threads, each takes some 30 MB for BLAS when it first happens to need them.
        program = FITTING.format(batch=batch, parts=parts)
        return commands(program=program, env={"GPUKIT_THREADS": "1"})

    outcome = fit(4000)
    survived("trainings that run out of memory", outcome, codes=(2,))
    assert "in epoch 1, step 1, on a batch of 4000" in outcome.out
    assert "Conv2D 'c1' " in outcome.out
    found = re.search(r"at most (\d+) fit: use --batch-size \1, or --accumulate (\d+)", outcome.out)
    assert found, outcome.out
    largest, parts = int(found[1]), int(found[2])
    assert fit(largest).code == 0
    assert fit(4000, parts).code == 0
    assert largest > 400 and fit(2 * largest + 200).code == 2
