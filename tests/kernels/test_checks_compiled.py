"""Every kernel file compiles for every architecture without a warning, within its committed budget.

sm_90 gets all instances, each other architecture a twelfth of them. GPUKIT_TEST_INSTANCES=all
compiles all for all, as `gpukit kernels check --all` does; a number N, one in N for all.

For some architectures the machine code is looked at too: hot loops keep away from local memory, and
loads are as wide as the tiling promises.
"""

from __future__ import annotations

import json
import os
import re

import pytest

from gpukit.errors import GpukitError, SettingError
from gpukit.launch import nvrtc
from gpukit.launch.sources import Source, load
from gpukit.static import budgets, sass

try:
    nvrtc.version()
    PROBLEM = ""
except GpukitError as error:
    PROBLEM = str(error)

needs_nvrtc = pytest.mark.skipif(bool(PROBLEM), reason=PROBLEM)
DISASSEMBLED = (75, 90, 120)
INSTANCES = os.environ.get("GPUKIT_TEST_INSTANCES", "")
ONE_IN = dict.fromkeys(nvrtc.ARCHITECTURES, 12) | {90: 1}
if INSTANCES:
    ONE_IN = dict.fromkeys(ONE_IN, 1 if INSTANCES == "all" else int(INSTANCES))
TILED = {"linear.cu": 1, "conv/direct.cu": 1, "conv/first.cu": 1}
# Kernels that go through arrays in packs of 16 bytes (kernels/pack.cuh).
PACKS = (
    "unary<", "gradient<", "binary<", "scalar<", "sgd_plain<", "sgd_momentum<", "dropout<",
    "lrn<", "lrn_gradient<", "bias_relu_lrn_pool", "adam<", "rmsprop_plain<", "rmsprop_momentum<",
    "adagrad<",
)  # fmt: skip


@needs_nvrtc
@pytest.mark.parametrize("arch", nvrtc.ARCHITECTURES)
@pytest.mark.parametrize("file", budgets.all_files())
def test_compiled_code(file, arch):
    source = share(load(file), arch)
    made = nvrtc.compile_source(source, arch)
    # Where some instances are left out, constants that only they use are unused.
    partial = () if ONE_IN[arch] == 1 else ("#177-D", "The warnings can be suppressed")
    assert [w for w in made.warnings if not any(text in w for text in partial)] == []
    taken = {
        name: {str(arch): [getattr(resources, field) for field in budgets.FIELDS]}
        for name, resources in made.resources.items()
    }
    table = budgets.read()
    if ONE_IN[arch] != 1:  # what is not built at all is seen there
        kept = table.of(budgets.version())[file]
        table.of(budgets.version())[file] = {n: kept[n] for n in taken if n in kept}
    found = budgets.compare({file: taken}, table, budgets.version())
    assert [finding.text for finding in found] == []
    if arch in DISASSEMBLED:
        look(source, sass.disassemble(made))


def share(source, arch):
    """`source` with the instances that are compiled for sm_`arch` here."""
    first = nvrtc.ARCHITECTURES.index(arch)
    chosen = [i for n, i in enumerate(source.instances) if (n + first) % ONE_IN[arch] == 0]
    made = Source(source.file, source.text)
    made.instances = chosen or source.instances[:1]
    return made


def look(source, listings):
    assert set(listings) >= {i.expression for i in source.instances}
    assert sass.broken_facts(source, listings) == []
    for name, listing in listings.items():
        if name.startswith(PACKS):
            for opcode in ("LDG", "STG"):
                assert any(i.opcode == opcode and i.is_wide for i in listing), (name, opcode)
        if re.search(r"<float\b", name):
            double = [i.name for i in listing if i.opcode in ("DADD", "DMUL", "DFMA")]
            assert double == [], f"{name} computes in double"
        if source.file == "conv/first.cu":
            for loop in sass.hot_loops(listing):
                assert sass.count(loop, "LDG") == 0, f"{name} reads global memory in its hot loop"
                assert any(i.opcode == "LDS" and i.is_wide for i in loop), name
        if source.file in TILED and not name.startswith(("split_sum", "scatter")):
            assert sass.hot_loops(listing), f"{name} has no loop of multiply-adds"


# NVRTC 13.0 keeps one to four words of a thread in local memory where launch bounds leave it few
# registers; outside of hot loops, as `look` sees, and only on these cards.
SPILLED = {
    "13.0": {
        "column_moments<double>": ("100", "120"),
        "implicit_forward<float, 128, 128, true, true, 0>": ("120",),
        "implicit_forward<float, 128, 128, true, true, 1>": ("120",),
    }
}


@pytest.mark.parametrize("version", budgets.VERSIONS)
def test_nothing_spills(version):
    """No budget may grow a spill unseen: a kernel that must have one is named, with why."""
    spills: dict[str, tuple[str, ...]] = {}
    for instances in budgets.read().of(version).values():
        for name, by_arch in instances.items():
            for arch, figures in by_arch.items():
                if dict(zip(budgets.FIELDS, figures))["spill_stores"]:
                    spills[name] = (*spills.get(name, ()), arch)
    assert spills == SPILLED.get(version, {})


TAKEN = {"a.cu": {"f<float>": {"80": [32, 0, 0, 0, 0], "90": [32, 0, 0, 0, 0]}}}


@pytest.mark.parametrize(
    ("budget", "version", "found"),
    [
        ([32, 0, 0, 0, 0], "13.5", []),
        ([25, 0, 0, 0, 0], "13.5", []),  # as many eights
        ([24, 0, 0, 0, 0], "13.5", ["f<float> registers 24 -> 32 on sm_80, sm_90"]),
        ([33, 0, 0, 0, 0], "13.5", ["f<float> registers 33 -> 32 on sm_80, sm_90"]),
        ([32, 64, 0, 0, 0], "13.5", ["f<float> shared 64 -> 0 on sm_80, sm_90"]),
        ([24, 0, 0, 0, 0], "13.0", ["f<float> registers 24 -> 32 on sm_80, sm_90"]),
        ([24, 0, 0, 0, 0], "13.4", []),
        ([32, 0, 8, 4, 0], "13.4", ["f<float> spill stores 4 -> 0 on sm_80, sm_90"]),
        (None, "13.5", ["f<float> has no budget yet on sm_80, sm_90"]),
    ],
)  # fmt: skip
def test_a_change_must_be_written_down(budget, version, found):
    known = {"f<float>": dict.fromkeys(("80", "90"), budget)} if budget else {}
    table = budgets.Table({kept: {"a.cu": known} for kept in ("13.5", "13.0")})
    assert [f.text for f in budgets.compare(TAKEN, table, version)] == found


def test_what_is_no_longer_built_leaves_the_budgets():
    table = budgets.Table({"13.5": {"a.cu": {**TAKEN["a.cu"], "g<float>": {}}}})
    (found,) = budgets.compare(TAKEN, table, "13.5")
    assert found.text == "g<float> has a budget, but is no longer built"
    assert found.again == "bash .ci/budgets update"


def test_budgets_are_written_and_read(tmp_path):
    path = tmp_path / "budgets.json"
    budgets.write(budgets.Table({"13.5": TAKEN}), path)
    assert budgets.read(path) == budgets.Table({"13.5": TAKEN})
    other = {"a.cu": {"f<float>": {"80": [40, 0, 0, 0, 0]}}}
    merged = budgets.merge(budgets.read(path), other, "13.5", everything=False)
    assert merged.of("13.5")["a.cu"]["f<float>"] == {"80": [40, 0, 0, 0, 0], "90": [32, 0, 0, 0, 0]}
    assert budgets.read(tmp_path / "none.json").of("13.5") == {}


def test_another_version_is_written_where_it_differs(tmp_path):
    path = tmp_path / "budgets.json"
    other = {"a.cu": {"f<float>": {"80": [40, 0, 0, 0, 0], "90": [30, 0, 0, 0, 0]}}}
    table = budgets.merge(budgets.Table({"13.5": TAKEN}), other, "13.0", everything=True)
    budgets.write(table, path)
    assert json.loads(path.read_text())["13.0"] == {"a.cu": {"f<float>": {"80": [40, 0, 0, 0, 0]}}}
    read = budgets.read(path)
    assert read.of("13.5") == read.of("13.4") == TAKEN
    assert read.of("13.0")["a.cu"]["f<float>"] == {"80": [40, 0, 0, 0, 0], "90": [32, 0, 0, 0, 0]}
    # What the first takes now says nothing of the others.
    more = {"a.cu": {"f<float>": {"80": [48, 0, 0, 0, 0], "90": [48, 0, 0, 0, 0]}}}
    budgets.write(budgets.merge(read, more, "13.5", everything=True), path)
    assert budgets.read(path).of("13.0") == read.of("13.0")


def test_budgets_of_a_version_that_is_not_kept_are_refused():
    with pytest.raises(SettingError, match=r"NVRTC 13\.5 and 13\.0, this is 13\.4: pip install"):
        budgets.merge(budgets.read(), TAKEN, "13.4", everything=True)


def test_both_versions_are_kept():
    assert (*budgets.read().versions,) == budgets.VERSIONS


SPILLING = """
\t.section\t.text.f,"ax",@progbits
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_x_1:
        /*0010*/                   LDG.E R2, [R4.64] ;
        /*0020*/                   LDG.E.128 R8, [R4.64] ;
        /*0030*/                   STL [R1], R2 ;
{multiply_adds}
        /*0900*/              @!P0 BRA `(.L_x_1) ;
        /*0910*/                   EXIT ;
"""


@pytest.mark.parametrize("many", [63, 64])
def test_a_spill_in_a_hot_loop_is_seen(many):
    line = "        /*0040*/                   FFMA R8, R9, R2, R8 ;\n"
    listings = sass.parse(SPILLING.format(multiply_adds=line * many), {"f": "gemm<true>"})
    (listing,) = listings.values()
    assert sass.count(listing, "LDG") == 2
    assert len(sass.hot_loops(listing)) == (many == 64)
    source = Source(
        "x.cu",
        "// instances: gemm<true>\ntemplate <bool PACKED_A> __global__ void gemm(float* y) {}\n",
    )
    broken = sass.broken_facts(source, listings)
    assert [b.partition(" ")[2] for b in broken] == (
        ["uses local memory in its hot loop", "loads by LDG.E where it is packed"] * (many == 64)
    )
