"""Turns, medians, ratios, means and the table, with times made up."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console
from stand_ins import CEILINGS, FakeClock, implementation, race
from test_race_refusals import CONV, RELU, FakeRival, honest

from gpukit.device import get_device
from gpukit.race import contest, report
from gpukit.race.contest import Outcome, alternate, means, spread
from gpukit.race.picture import save_rows
from gpukit.race.problems import problem, problems

ABOUT = {"machine": "test machine", "date": "2026-01-01"}


def turns(log, **seconds):
    def turn(name, took):
        def run():
            log.append(name)
            return took

        return run

    return {name: turn(name, took) for name, took in seconds.items()}


def test_entrants_alternate_and_none_always_runs_after_the_same():
    log = []
    times, failures = alternate(turns(log, a=0.06, b=0.06, c=0.06))
    assert failures == {}
    rounds = [log[i : i + 3] for i in range(0, len(log), 3)]
    assert all(sorted(r) == ["a", "b", "c"] for r in rounds)
    assert {tuple(r) for r in rounds[:3]} == {("b", "c", "a"), ("c", "a", "b"), ("a", "b", "c")}
    assert {len(t) for t in times.values()} == {9}


def test_rounds():
    times, _ = alternate(turns([], quick=1e-6, usual=0.2, slow=6.0, slower=11.0))
    assert {name: len(t) for name, t in times.items()} == {
        "quick": contest.MOST,
        "usual": contest.LEAST,
        "slow": contest.SLOW_LEAST,
        "slower": contest.SLOW_LEAST,
    }


def test_progress_adds_up():
    shares = []
    alternate(turns([], a=1e-6, b=0.02, c=3.0), shares.append)
    assert sum(shares) == pytest.approx(1)
    assert min(shares) >= 0


def test_no_entrant_at_all():
    assert alternate({}) == ({}, {})


def test_spread_is_the_interquartile_range_over_the_median():
    assert spread([1, 2, 3, 4, 5, 6, 7]) == pytest.approx(4 / 4)
    assert spread([2.0] * 5) == 0


def test_a_rows_figures_by_hand():
    made = problem("conv2d", CONV)
    outcome = race("conv2d", *CONV, algos=["direct"], clock=FakeClock(0.5))
    default, direct = outcome.rows
    assert (default.default, direct.default, direct.name) == (True, False, "direct")
    assert direct.ms == 500
    assert direct.ratio_to_default == 1
    assert direct.ratio_to_rival is None
    assert direct.gflops == pytest.approx(made.flop / 0.5 / 1e9)
    assert direct.share_of_gflops == pytest.approx(made.flop / 0.5 / 100e9)
    assert direct.share_of_gbps == pytest.approx(made.bytes / 0.5 / 10e9)
    floor = max(made.flop / 100e9, made.bytes / 10e9)
    assert direct.floor_ms == pytest.approx(floor * 1e3)
    assert direct.share_of_floor == pytest.approx(floor / 0.5)
    assert not direct.void


def test_times_that_scatter_make_a_row_void():
    outcome = race("relu", *RELU, algos=[], clock=FakeClock(0.2, 0.1, 0.15, 0.3, 0.1))
    assert outcome.rows[0].void
    (mean,) = means(outcome)
    assert (mean.rows, mean.of, mean.share_of_floor, mean.network_ms) == (0, 1, None, None)


def rows(*figures):
    """Rows of (layer, name, ms, void), the first name the default, `theirs` a rival."""
    made = []
    default = figures[0][1]
    for layer, name, ms, void in figures:
        side = {n: m for la, n, m, _ in figures if la == layer}
        made.append(
            contest.Row(
                primitive="conv2d",
                layer=layer,
                sizes=",".join(map(str, CONV)),
                count=2,
                name=name,
                rival=name == "theirs",
                default=name == default,
                variant="plain",
                ms=ms,
                spread=0.3 if void else 0.01,
                rounds=5,
                ratio_to_default=ms / side[default],
                ratio_to_rival=ms / side["theirs"],
                gflops=1.0,
                gbps=1.0,
                in_cache=False,
                void=void,
                share_of_floor=1 / ms,
            )
        )
    return made


def test_means_are_geometric_and_leave_void_rows_out():
    made = rows(
        ("one", "ours", 1, False), ("one", "mine", 2, False), ("one", "theirs", 4, False),
        ("two", "ours", 1, False), ("two", "mine", 8, False), ("two", "theirs", 1, True),
        ("three", "ours", 1, True), ("three", "mine", 5, False), ("three", "theirs", 2, False),
    )  # fmt: skip
    by_name = {mean.name: mean for mean in means(Outcome(CEILINGS, made, layers={"conv2d": 3}))}
    mine, ours, theirs = (by_name[name] for name in ("mine", "ours", "theirs"))
    assert mine.ratio_to_default == pytest.approx((2 * 8) ** 0.5)  # layer three's default is void
    assert mine.ratio_to_rival == pytest.approx((2 / 4 * 5 / 2) ** 0.5)  # layer two's rival is
    assert mine.share_of_floor == pytest.approx((1 / 2 / 8 / 5) ** (1 / 3))
    assert mine.network_ms == 2 * (2 + 8 + 5)
    assert (ours.rows, ours.of, ours.network_ms) == (2, 3, None)
    assert theirs.ratio_to_rival == 1
    interrupted = {mean.name: mean for mean in means(Outcome(CEILINGS, made, layers={"conv2d": 4}))}
    assert (interrupted["mine"].of, interrupted["mine"].network_ms) == (4, None)


def test_the_title_says_what_is_raced():
    cpu = get_device("cpu")
    assert report.title([problem("relu", RELU)], cpu) == "relu: 2,4,4,3, on cpu"
    layers = problems("lrn", "alexnet", 8)
    assert report.title(layers, cpu) == "lrn: alexnet, N = 8, on cpu"
    step = problems("sgd_update", "alexnet", 8)
    assert report.title(step, cpu) == "sgd_update: alexnet, parameters = 60965224, on cpu"


def shown(outcome):
    console = Console(file=io.StringIO(), width=report.WIDTH)
    report.show(outcome, console)
    return console.file.getvalue()


def test_the_table_says_everything():
    with implementation("relu", "lazy", lambda x: x):
        outcome = race(
            "relu", *RELU, clock=FakeClock(0.1), rivals={"theirs": FakeRival(lambda x: [honest(x)])}
        )
    text = shown(outcome)
    assert "REFUSED lazy on 2,4,4,3 (relu): result 0 differs" in text
    line = next(line for line in text.splitlines() if line.startswith("2,4,4,3"))
    assert line.split()[1:6] == ["numba", "100.000", "0%", "1.00", "0.05"]
    assert "(c)" in line
    assert "default" in line
    assert sum(line.startswith("geometric mean") for line in text.splitlines()) == 2
    assert "nothing was timed" in shown(Outcome(CEILINGS))


def test_reasons_are_said_once_for_all_layers():
    outcome = Outcome(CEILINGS)
    outcome.left_out = [
        contest.Note("conv2d", layer, name, "absent")
        for layer, name in (("one", "a"), ("one", "b"), ("two", "a"))
    ]
    assert [line for line in shown(outcome).splitlines() if "absent" in line] == [
        "left out: a on one, two (conv2d): absent",
        "left out: b on one (conv2d): absent",
    ]


def test_json_holds_everything_and_is_json():
    outcome = race("relu", *RELU, algos=[], clock=FakeClock(0.1))
    found = json.loads(json.dumps(report.as_dict(outcome, ABOUT)))
    assert found["ok"] is True
    assert found["machine"] == "test machine"
    assert found["ceilings"]["gflops"] == 100
    assert found["rows"][0]["name"] == found["means"][0]["name"] == "numba"
    assert found["refused"] == found["left_out"] == []


def test_the_picture_is_written(tmp_path):
    made = rows(("one", "ours", 1, False), ("one", "theirs", 2, True))
    save_rows(tmp_path / "race.png", made, ABOUT)
    assert (tmp_path / "race.png").read_bytes().startswith(b"\x89PNG")
