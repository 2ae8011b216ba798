"""The mix of a hot loop: listings counted by hand, and a kernel whose loop is known."""

from __future__ import annotations

import pytest

from gpukit.launch.nvrtc import compile_text
from gpukit.launch.wheels import nvidia_folder
from gpukit.static.instruction_mix import instruction_mix, widths
from gpukit.static.sass import disassemble, innermost_loops, parse

LISTING = """
    .section .text.k,"ax",@progbits
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_outer:
        /*0010*/                   LDG.E R2, [R4.64] ;
.L_inner:
        /*0020*/                   LDS.128 R8, [R3] ;
        /*0030*/                   FFMA R0, R8, R9, R0 ;
        /*0040*/                   FFMA R0, R10, R11, R0 ;
        /*0050*/              @!P0 BRA `(.L_done) ;
        /*0060*/               @P1 BRA `(.L_inner) ;
.L_done:
        /*0070*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*0080*/               @P2 BRA `(.L_outer) ;
.L_tail:
        /*0090*/                   LDG.E R2, [R4.64] ;
        /*00a0*/                   FADD R0, R0, R2 ;
        /*00b0*/              @!P3 BRA `(.L_tail) ;
        /*00c0*/                   EXIT ;
.L_end:
        /*00d0*/                   BRA `(.L_end);
        /*00e0*/                   NOP;
"""


def test_the_innermost_loop_is_counted():
    listing = parse(LISTING, {})["k"]
    assert len(innermost_loops(listing)) == 2  # .L_inner and .L_tail; .L_outer holds a loop
    found = instruction_mix(listing)
    assert found.is_loop
    assert found.counts == {"LDS": 1, "FFMA": 2, "BRA": 2}
    assert found.maths == 0.4
    assert str(found) == "loop of 5, 40 % maths: 2 BRA, 2 FFMA, 1 LDS"


def test_a_kernel_without_loops_is_counted_whole():
    rows = [r for r in LISTING.splitlines() if "BRA" not in r or "L_end" in r]
    found = instruction_mix(parse("\n".join(rows), {})["k"])
    assert not found.is_loop
    assert found.counts == {
        "MOV": 1, "LDG": 2, "LDS": 1, "FFMA": 2, "BAR": 1, "FADD": 1, "EXIT": 1, "BRA": 1
    }  # fmt: skip


def test_widths_of_moves():
    rows = "\n".join(
        f"        /*0000*/                   {name} R0, R1 ;"
        for name in (
            "LDG.E.128.CONSTANT",
            "LDG.E",
            "LDG.E",
            "STS.64",
            "LDGSTS.E.BYPASS.128",
            "IMAD",
        )
    )
    listing = parse(f".section .text.k\n{rows}", {})["k"]
    assert widths(listing) == {"LDG.128": 1, "LDG": 2, "STS.64": 1, "LDGSTS.128": 1}


@pytest.mark.skipif(nvidia_folder() is None, reason="pip install 'gpukit[kernels]'")
@pytest.mark.parametrize("arch", [80, 120])
def test_a_kernel_of_known_work(arch):
    source = """
        __global__ void dot(const float* __restrict__ x, float* __restrict__ y, int n) {
            float sum = 0;
        #pragma unroll 1
            for (int i = 0; i < n; ++i) {
                const float v = x[i];
        #pragma unroll
                for (int k = 0; k < 40; ++k) sum = sum * v + 1.5f;
            }
            y[threadIdx.x] = sum;
        }"""
    found = instruction_mix(disassemble(compile_text(source, ["dot"], arch))["dot"])
    assert found.is_loop
    assert (found.counts["FFMA"], found.counts["LDG"]) == (40, 1)
    assert found.maths > 0.75
