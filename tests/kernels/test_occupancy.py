"""Occupancy, held to NVIDIA's own header and to published examples."""

from __future__ import annotations

import random
import re
import subprocess

import pytest

from gpukit.emulator import compiler_problem
from gpukit.emulator.build import compiler
from gpukit.launch.nvrtc import ARCHITECTURES
from gpukit.launch.wheels import nvidia_file, nvidia_folder
from gpukit.static.occupancy import LIMITS, occupancy

PROGRAM = """
#include <climits>
#include <cstdio>
#include "cuda_occupancy.h"
int main() {
    int major, minor, warps, shared, reserved, threads, registers, bytes;
    while (scanf("%d%d%d%d%d%d%d%d", &major, &minor, &warps, &shared, &reserved, &threads,
                 &registers, &bytes) == 8) {
        cudaOccDeviceProp card;
        card.computeMajor = major, card.computeMinor = minor;
        card.maxThreadsPerBlock = 1024, card.maxThreadsPerMultiprocessor = 32 * warps;
        card.regsPerBlock = card.regsPerMultiprocessor = 65536, card.warpSize = 32;
        card.numSms = 1, card.sharedMemPerBlock = 48 << 10;
        card.sharedMemPerMultiprocessor = shared;
        card.sharedMemPerBlockOptin = shared - reserved, card.reservedSharedMemPerBlock = reserved;
        cudaOccFuncAttributes kernel;
        kernel.maxThreadsPerBlock = INT_MAX, kernel.numRegs = registers;
        kernel.sharedSizeBytes = bytes;
        kernel.partitionedGCConfig = PARTITIONED_GC_OFF;
        kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
        kernel.maxDynamicSharedSizeBytes = shared;
        kernel.numBlockBarriers = 0;
        cudaOccDeviceState state;
        cudaOccResult found;
        if (cudaOccMaxActiveBlocksPerMultiprocessor(&found, &card, &kernel, &state, threads, 0))
            return 1;
        printf("%d %u\\n", found.activeBlocksPerMultiprocessor, found.limitingFactors);
    }
}
"""
FACTORS = {"threads": 1, "registers": 2, "shared memory": 4, "blocks": 8}


@pytest.mark.skipif(bool(compiler_problem()), reason=compiler_problem())
@pytest.mark.skipif(nvidia_folder() is None, reason="pip install 'gpukit[kernels]'")
def test_like_the_header_of_nvidia(tmp_path):
    header = nvidia_file("include/cuda_occupancy.h", "CUDA's headers")
    (tmp_path / "main.cpp").write_text(PROGRAM)
    program = tmp_path / "main"
    subprocess.run(
        [compiler(), "-w", f"-I{header.parent}", str(tmp_path / "main.cpp"), "-o", str(program)],
        check=True,
    )
    pick = random.Random(5)
    cases = []
    for _ in range(3000):
        arch = pick.choice(list(LIMITS))
        limits = LIMITS[arch]
        shared = pick.choice([0, 1, 1024, pick.randrange(limits.shared - limits.reserved)])
        cases.append((arch, pick.randint(1, 1024), pick.randint(16, 255), shared))
    lines = [
        f"{arch // 10} {arch % 10} {LIMITS[arch].warps} {LIMITS[arch].shared} "
        f"{LIMITS[arch].reserved} {threads} {registers} {shared}"
        for arch, threads, registers, shared in cases
    ]
    done = subprocess.run(
        [str(program)], input="\n".join(lines), capture_output=True, text=True, check=True
    )
    theirs = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(theirs) == len(cases)
    for case, (blocks, factors) in zip(cases, theirs):
        ours = occupancy(*case)
        assert ours.blocks == blocks, case
        if blocks:
            assert sum(FACTORS[f] for f in ours.limited_by) == factors, case


@pytest.mark.skipif(nvidia_folder() is None, reason="pip install 'gpukit[kernels]'")
def test_limits_are_those_that_nvidia_ships():
    text = nvidia_file("include/cccl/cuda/__device/arch_traits.h", "CUDA's headers").read_text()
    for arch in LIMITS:
        body = text.split(f"arch_traits<arch_id::sm_{arch}>() noexcept")[1].split("return")[0]
        said = dict(re.findall(r"max_(\w+)_per_multiprocessor\s*= (\d+)", body))
        assert int(said["shared_memory"]) << 10 == LIMITS[arch].shared
        assert int(said["blocks"]) == LIMITS[arch].blocks
        assert int(said["threads"]) == 32 * LIMITS[arch].warps


def test_every_architecture_has_limits():
    assert tuple(LIMITS) == ARCHITECTURES


def test_published_examples():
    # Programming guide, "Multiprocessor Level": 64 registers and 512 threads fill a register file
    # of 64 K twice; one register more, and only one block fits.
    assert occupancy(80, 512, 64, 0).blocks == 2
    assert occupancy(80, 512, 65, 0).blocks == 1
    assert occupancy(80, 512, 64, 0).limited_by == ("registers",)
    full = occupancy(90, 256, 32, 0)
    assert (full.blocks, full.warps, full.percent) == (8, 64, 100)
    assert full.limited_by == ("threads", "registers")
    # 100 KB for blocks of 40,000 bytes, a KB more each for the driver.
    assert occupancy(120, 64, 16, 40000).blocks == 2
    assert occupancy(120, 64, 16, 40000).limited_by == ("shared memory",)
    assert occupancy(86, 32, 16, 0).limited_by == ("blocks",)
    assert occupancy(90, 1024, 65, 0).blocks == 0
