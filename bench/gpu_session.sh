#!/usr/bin/env bash
# All that only a card can show, in one go and under nine minutes:  bash bench/gpu_session.sh
#
# 1. environment; gpukit installed, editable and without a network
# 2. stand-ins of inline PTX confirmed          bench/confirm_standins.py
# 3. tests of primitives and copies, on cuda     pytest -m gpu tests/backend tests/kernels/…
# 4. random cases of every kernel, arguments late on the current stream    gpukit kernels check
#    and a plug-in that works on a stream of its own refused    pytest tests/kernels/test_cheats.py
# 5. LeNet-5 trained, losses held to the CPU's
# 6. races against PyTorch with cuDNN, training steps of LeNet-5 and AlexNet    bench/cuda_race.py
# 7. AlexNet's convolutions raced as a kernel author would                      gpukit race
# 8. compute-sanitizer's four tools on a short run, each with its summary line asserted, and two of
#    them on a planted bug that they must find
#
# Later steps run whatever became of earlier ones; each has a time limit. Results go to the folder
# $OUT (gpu-session): session.json, which holds all of them, also when this script is
# killed; race.json; session.log, tests.log, sanitizer.log. Exits with 0 only if every step passed.
# To keep the race:
# cp $OUT/race.json bench/results/CARD.json (or python -m bench.cuda_race --record).
#
# The machine needs Python ≥ 3.11 with pip, setuptools ≥ 77, NumPy ≥ 2, CuPy 14, PyTorch, numba,
# pytest, pytest-xdist, hypothesis, rich, safetensors, pillow, matplotlib; a driver; compute-sanitizer
# on the path or in /usr/local/cuda/bin; g++ for the emulator's side of step 2. Wheels that usually
# have to travel along: click, platformdirs, scipy-openblas32. Put them (with whatever else step 1
# reports as missing) into the folder $WHEELS (.whl):
#   pip download --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux2014_x86_64 \
#       --platform manylinux_2_28_x86_64 -d .whl click platformdirs scipy-openblas32
# Tests of algo="numba" (cuda-numba…) want numba-cuda[cu13], installed for this Python: its .pth file
# is not read in $WHEELS' place. Without it they are skipped, and the sanitizers leave them out.
#
# --dry: everything on the emulator, so that the first run on a card fails on nothing silly; small
# counts, nothing timed, the emulator's own sanitizers. PYTHON=… chooses an interpreter.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

dry=
case "${1:-}" in
--dry) dry=1 ;;
"") ;;
*) echo "usage: bash bench/gpu_session.sh [--dry]" >&2; exit 2 ;;
esac
OUT=${OUT:-gpu-session}
mkdir -p "$OUT" && OUT=$(cd "$OUT" && pwd) || exit 1
# Nothing of an earlier session may pass for this one's.
for name in race.json session.json session.log tests.log sanitizer.log; do
    rm -f "$OUT/$name"
done
WHEELS=${WHEELS:-.whl}
python=${PYTHON:-python3}
work=$(mktemp -d "${TMPDIR:-/tmp}/gpukit-session.XXXXXX")
trap 'rm -rf "$work"' EXIT
parts=$work/parts # of session.json
mkdir "$parts"
export CUPY_CACHE_DIR="$work/cupy" MPLBACKEND=Agg PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# The dry run keeps the user's cache of compiled stand-ins: it is about this script.
[ -n "$dry" ] || export GPUKIT_CACHE="$work/cache"
[ -d /usr/local/cuda/bin ] && PATH="$PATH:/usr/local/cuda/bin"
device=cuda
[ -z "$dry" ] || device=emu
TOTAL=530 # seconds, after which no step starts; nine minutes with the summary
: >"$work/steps.jsonl"

# note NAME SECONDS STATE NOTE: STATE is ok, failed or skipped.
note() {
    "$python" -c 'import json, sys
name, seconds, state, text = sys.argv[1:]
print(json.dumps({"name": name, "seconds": int(seconds), "state": state, "note": text}))' \
        "$@" >>"$work/steps.jsonl"
    summary >/dev/null
}

summary() {
    "$python" bench/session.py summary "$work/steps.jsonl" "$parts" "$OUT"
}

# step NAME LIMIT LOG COMMAND…: run for LIMIT seconds at most, output into LOG too.
step() {
    local name=$1 limit=$2 log=$OUT/$3 start=$SECONDS code=0 left=$((TOTAL - SECONDS))
    shift 3
    [ "$limit" -le "$left" ] || limit=$left
    printf '\n== %s\n' "$name" | tee -a "$log"
    if [ "$limit" -lt 5 ]; then
        echo "no time left" | tee -a "$log"
        note "$name" 0 failed "no time left"
        return 1
    fi
    timeout --kill-after=10 "$limit" "$@" </dev/null >"$work/step.log" 2>&1 || code=$?
    cat "$work/step.log" >>"$log"
    tail -n 25 "$work/step.log"
    case $code in
    0) note "$name" $((SECONDS - start)) ok "" ;;
    124 | 137) note "$name" $((SECONDS - start)) failed "ran into its limit of $limit s" ;;
    *) note "$name" $((SECONDS - start)) failed "exit code $code, see ${log##*/}" ;;
    esac
    return $code
}

is_importable() {
    "$python" - "$PWD" <<'PY' 2>/dev/null
import pathlib, sys
import gpukit, gpukit.kernels
sys.exit(pathlib.Path(gpukit.__file__).resolve().parents[1] != pathlib.Path(sys.argv[1]).resolve())
PY
}

install() {
    local absent
    if compgen -G "$WHEELS/*.whl" >/dev/null; then
        "$python" -m pip install -q --no-index --no-deps --no-compile --target "$work/site" \
            "$WHEELS"/*.whl || return 1
    fi
    absent=$("$python" bench/session.py missing $([ -n "$dry" ] || echo --card)) || return 1
    if [ -n "$absent" ]; then
        echo "missing here: $absent"
        echo "bring their wheels in the folder $WHEELS (see the head of this script)"
        return 1
    fi
    is_importable && { echo "gpukit is importable from $PWD"; return 0; }
    if [ -n "$dry" ]; then
        echo "gpukit is not importable from $PWD: pip install -e . --no-deps --no-build-isolation"
        return 1
    fi
    "$python" -m pip install -q -e . --no-deps --no-build-isolation && is_importable
}

# tests ARGUMENT…: of the primitives; a run that skips everything has shown nothing.
tests() {
    "$python" -m pytest tests/backend tests/kernels/test_transfer_on_cards.py \
        -p no:cacheprovider -q "$@" 2>&1 | tee "$work/tests.txt"
    [ "${PIPESTATUS[0]}" = 0 ] || return 1
    grep -qE '^[0-9]+ passed' "$work/tests.txt" || { echo "no test ran on $device"; return 1; }
}

train() {
    local where
    for where in "$device" cpu; do
        "$python" -m gpukit train lenet5 --device "$where" --json --quiet --out "$work/$where" "$@" ||
            return 1
    done
    "$python" bench/session.py losses "$work/$device" "$work/cpu" >"$parts/losses.json"
    local code=$?
    cat "$parts/losses.json"
    return $code
}

# checked ARGUMENT…: `gpukit kernels check --json`, whose last line is its result.
checked() {
    local code=0
    "$python" -m gpukit kernels check --quiet --json "$@" >"$work/checked.txt" || code=$?
    head -n -1 "$work/checked.txt"
    tail -n 1 "$work/checked.txt" >"$parts/kernels.json"
    return $code
}

# raced ARGUMENT…: the same of `gpukit race conv2d`.
raced() {
    local code=0
    "$python" -m gpukit race conv2d --quiet --json "$@" >"$work/raced.txt" || code=$?
    head -n -1 "$work/raced.txt"
    tail -n 1 "$work/raced.txt" >"$parts/layers.json"
    return $code
}

# sanitized TOOL ARGUMENT…: the short run under a tool; its summary must speak of no error.
sanitized() {
    local tool=$1 code=0 wanted="ERROR SUMMARY: 0 errors"
    shift
    [ "$tool" != racecheck ] || wanted="RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)"
    compute-sanitizer --tool "$tool" --error-exitcode 9 "$python" -m bench.short_run \
        --device cuda "$@" >"$work/sanitizer.txt" 2>&1 || code=$?
    tail -n 40 "$work/sanitizer.txt"
    grep -qF "$wanted" "$work/sanitizer.txt" || { echo "no line '$wanted'"; return 1; }
    return $code
}

# found TOOL ERROR PLANT: the tool must report the planted bug, with a summary of its own.
found() {
    local tool=$1 wanted=$2 plant=$3
    compute-sanitizer --tool "$tool" --error-exitcode 9 "$python" -m bench.short_run \
        --device cuda --plant "$plant" >"$work/sanitizer.txt" 2>&1
    tail -n 15 "$work/sanitizer.txt"
    grep -qE "$wanted" "$work/sanitizer.txt"
}

# caught SANITIZER EXIT PLANT: the emulator's build must end with that exit code.
caught() {
    local code=0
    "$python" -m bench.short_run --device emu --sanitizer "$1" --plant "$3" || code=$?
    echo "exit code $code, $2 wanted"
    [ $code = "$2" ]
}

export PYTHONPATH="$work/site${PYTHONPATH:+:$PYTHONPATH}"
environment() { "$python" bench/session.py environment | tee "$parts/environment.json"; }
export -f environment is_importable install tests train checked raced sanitized found caught
export dry device python work parts OUT WHEELS

step "environment" 40 session.log bash -c environment
step "install" 90 session.log bash -c install
step "stand-ins" 60 session.log "$python" -m bench.confirm_standins --device $device \
    --json "$parts/standins.json"
if [ -n "$dry" ]; then
    step "tests" 90 tests.log bash -c \
        'tests -n 2 -k "emu- and (softmax or relu or dense or pool or conv2d)"'
    step "kernels" 60 tests.log bash -c "checked relu --mode plain --mode cheats --fuzz 3"
    step "train" 80 session.log bash -c "train --limit 128 --epochs 1"
    step "race" 110 session.log "$python" -m bench.cuda_race --device emu
    step "layers" 90 session.log bash -c "raced --layers 1,13,13,8,8,3,3 --device cpu --rivals torch"
    for pair in "asan 86 overrun" "tsan 66 race"; do
        set -- $pair
        step "$1 finds a planted bug" 60 sanitizer.log bash -c "caught $pair"
        step "$1" 90 sanitizer.log "$python" -m bench.short_run --device emu --sanitizer "$1" \
            --cases 1 --only relu,softmax,dense --no-lenet
    done
    note "compute-sanitizer" 0 skipped "dry: it needs a card"
else
    workers=$(nproc)
    [ "$workers" -le 8 ] || workers=8
    step "tests" 150 tests.log bash -c "tests -m gpu -n $workers"
    step "kernels" 80 tests.log bash -c "checked --all --mode card --fuzz 4"
    step "streams" 30 tests.log "$python" -m pytest tests/kernels/test_cheats.py \
        -p no:cacheprovider -q -n 0 -m gpu
    step "train" 60 session.log bash -c "train --limit 2000 --epochs 2"
    step "race" 190 session.log "$python" -m bench.cuda_race --seconds 150 --json "$OUT/race.json"
    step "layers" 60 session.log bash -c "raced --layers alexnet --rivals torch"
    if command -v compute-sanitizer >/dev/null; then
        step "memcheck finds a planted bug" 40 sanitizer.log \
            bash -c "found memcheck 'ERROR SUMMARY: [1-9]' overrun"
        step "racecheck finds a planted bug" 40 sanitizer.log \
            bash -c "found racecheck 'RACECHECK SUMMARY: [1-9]' race"
        for tool in memcheck racecheck initcheck synccheck; do
            step "$tool" 60 sanitizer.log bash -c "sanitized $tool --cases 1"
        done
    else
        note "compute-sanitizer" 0 failed "not on the path, nor in /usr/local/cuda/bin"
    fi
fi

printf '\n== steps\n'
summary
code=$?
echo "$SECONDS s; results in $OUT"
exit $code
