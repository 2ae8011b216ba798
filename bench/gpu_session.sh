#!/usr/bin/env bash
# All that only a card can show, in nine minutes:  bash bench/gpu_session.sh
# or in three calls, each under seven:             bash bench/gpu_session.sh --part checks
#                                                  … --part race, … --part sanitizers
#
# all         gpukit installed, editable and without a network; environment
# checks      stand-ins of inline PTX confirmed          bench/confirm_standins.py
#             tests of primitives and copies, on cuda     pytest -m gpu tests/backend tests/kernels/…
#             random cases of every kernel, arguments late on the current stream
#                                                         gpukit kernels check --mode card
#             a plug-in that works on a stream of its own refused    tests/kernels/test_cheats.py
#             LeNet-5 trained, losses held to the CPU's
# race        against PyTorch with cuDNN: training steps of LeNet-5 and AlexNet, predictions
#                                                         python -m bench --device cuda
#             AlexNet's layers, pass by pass              gpukit race --suite alexnet
# sanitizers  compute-sanitizer's four tools on a short run, each with its summary line asserted,
#             and two of them on a planted bug that they must find; cuBLAS, of which racecheck and
#             initcheck complain without end, is left out of these two
#
# Findings are printed as they are found. Later steps run whatever became of earlier ones; each has a
# time limit, and one for which no time is left is skipped, which is no failure. Results go to the
# folder $OUT (gpu-session): session.json, which holds all of them, also when this script is killed,
# race.json, session.log, tests.log, sanitizer.log; of one part to $OUT/PART. Exits with 0 only if no
# step failed. Compiled kernels are kept for the next part in $CACHE.
# To keep the race: cp $OUT/race.json bench/results/CARD.json (or python -m bench --device cuda
# --record).
#
# The machine needs Python ≥ 3.11 with pip, setuptools ≥ 77, NumPy ≥ 2, CuPy 14, PyTorch, numba,
# pytest, pytest-xdist, hypothesis, rich, safetensors, pillow, matplotlib; a driver; compute-sanitizer
# on the path or in /usr/local/cuda/bin; g++ for the emulator's side of the stand-ins. Wheels that
# usually have to travel along: click, platformdirs, scipy-openblas32. Put them (with whatever else the
# install step reports as missing) into the folder $WHEELS (.whl):
#   pip download --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux2014_x86_64 \
#       --platform manylinux_2_28_x86_64 -d .whl click platformdirs scipy-openblas32
# Tests of algo="numba" (cuda-numba…) want numba-cuda[cu13], installed for this Python (its .pth file
# is not read in $WHEELS' place), and its libnvvm, of the wheel or of $CUDA_HOME. Without them they are
# skipped, and everything else leaves them out; the environment step says so.
#
# --dry: the same steps on a card that tests/standin stands in for, so that the first run on a card
# fails on nothing silly: small counts, PyTorch on the CPU, the emulator's own sanitizers, nothing
# timed but the steps. PYTHON=… chooses an interpreter.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

usage() {
    echo "usage: bash bench/gpu_session.sh [--dry] [--part checks|race|sanitizers]" >&2
    exit 2
}

dry='' part=all
while [ $# -gt 0 ]; do
    case $1 in
    --dry) dry=1 ;;
    --part)
        part=${2:-}
        [ $# -lt 2 ] || shift
        ;;
    *) usage ;;
    esac
    shift
done
case $part in
all) TOTAL=530 ;; # seconds, after which no step starts; nine minutes with the summary
checks | race | sanitizers) TOTAL=410 ;;
*) usage ;;
esac
OUT=${OUT:-gpu-session}
[ $part = all ] || OUT=$OUT/$part
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
CACHE=${CACHE:-${TMPDIR:-/tmp}/gpukit-session-cache-$UID}
export CUPY_CACHE_DIR="$CACHE/cupy" MPLBACKEND=Agg PYTHONUNBUFFERED=1
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONPATH="$work/site${PYTHONPATH:+:$PYTHONPATH}"
[ -d /usr/local/cuda/bin ] && PATH="$PATH:/usr/local/cuda/bin"
device=cuda patience=1
unset GPUKIT_DEVICE # tests and trainings name theirs
if [ -n "$dry" ]; then
    # The dry run keeps the user's cache of kernels compiled for the emulator.
    export PYTHONPATH="$PWD/tests/standin:$PYTHONPATH" PATH="$PWD/tests/standin/bin:$PATH"
    export PYTHON=$python
    patience=3 # this machine is not the one that the limits are for
else
    export GPUKIT_CACHE="$CACHE/gpukit"
fi
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

# step NAME LIMIT LOG COMMAND…: run for LIMIT seconds at most, output at once and into LOG too.
step() {
    local name=$1 limit=$(($2 * patience)) log=$OUT/$3 start=$SECONDS code=0 cut='' left
    left=$((TOTAL * patience - SECONDS))
    shift 3
    [ "$limit" -le "$left" ] || limit=$left cut=1
    printf '\n== %s\n' "$name" | tee -a "$log"
    if [ "$limit" -lt 5 ]; then
        echo "no time left" | tee -a "$log"
        note "$name" 0 skipped "no time left; see --part"
        return 0
    fi
    # An interrupt first: what was found until then is said.
    timeout --signal=INT --kill-after=10 "$limit" "$@" </dev/null 2>&1 | tee -a "$log"
    code=${PIPESTATUS[0]}
    case $code in
    0) note "$name" $((SECONDS - start)) ok "" ;;
    124 | 137)
        if [ -n "$cut" ]; then
            note "$name" $((SECONDS - start)) skipped "no time left after $limit s; see --part"
            return 0
        fi
        note "$name" $((SECONDS - start)) failed "ran into its limit of $limit s"
        ;;
    *) note "$name" $((SECONDS - start)) failed "exit code $code, see ${log##*/}" ;;
    esac
    return "$code"
}

# Whether gpukit and its kernels are this checkout's, wherever it was installed from.
is_importable() {
    "$python" - "$PWD" <<'PY'
import pathlib, sys
checkout = pathlib.Path(sys.argv[1]).resolve()
try:
    import gpukit, gpukit.kernels
except ImportError as error:
    sys.exit(f"{error}")
found = [pathlib.Path(gpukit.__file__).parent, *map(pathlib.Path, gpukit.kernels.__path__)]
for path, wanted in zip(found, (checkout / "gpukit", checkout / "kernels"), strict=True):
    if path.resolve() != wanted:
        sys.exit(f"{path} is not {wanted}")
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
    is_importable && { echo "gpukit and gpukit.kernels are those of $PWD"; return 0; }
    if [ -n "$dry" ]; then
        echo "install this checkout: pip install -e . --no-deps --no-build-isolation"
        return 1
    fi
    "$python" -m pip install -q -e . --no-deps --no-build-isolation && is_importable
}

# tests ARGUMENT…: of the primitives; a run that skips everything has shown nothing.
tests() {
    "$python" -m pytest -p bench.findings tests/backend tests/kernels/test_transfer_on_cards.py \
        -p no:cacheprovider -q --tb=short --no-summary -m gpu "$@" 2>&1 | tee "$work/tests.txt"
    [ "${PIPESTATUS[0]}" = 0 ] || return 1
    grep -qE '(^|, )[0-9]+ passed' "$work/tests.txt" || { echo "no test ran on $device"; return 1; }
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
    "$python" -m gpukit kernels check --quiet --json "$@" | tee "$work/checked.txt" |
        grep -v --line-buffered '^{'
    code=${PIPESTATUS[0]}
    tail -n 1 "$work/checked.txt" >"$parts/kernels.json"
    return $code
}

# raced ARGUMENT…: the same of `gpukit race`.
raced() {
    local code=0
    "$python" -m gpukit race --quiet --json "$@" | tee "$work/raced.txt" |
        grep -v --line-buffered '^{'
    code=${PIPESTATUS[0]}
    tail -n 1 "$work/raced.txt" >"$parts/layers.json"
    return $code
}

# watched TOOL ARGUMENT…: the short run under a tool, into sanitizer.txt too.
watched() {
    local tool=$1
    shift
    compute-sanitizer --tool "$tool" --error-exitcode 9 "$python" -m bench.short_run \
        --device "$device" "$@" 2>&1 | tee "$work/sanitizer.txt"
    return "${PIPESTATUS[0]}"
}

# sanitized TOOL ARGUMENT…: its summary must speak of no error.
sanitized() {
    local tool=$1 code=0 wanted="ERROR SUMMARY: 0 errors"
    [ "$tool" != racecheck ] || wanted="RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)"
    watched "$@" || code=$?
    grep -qF "$wanted" "$work/sanitizer.txt" || { echo "no line '$wanted'"; return 1; }
    return $code
}

# found TOOL ERROR PLANT: the tool must report the planted bug, with a summary of its own.
found() {
    watched "$1" --plant "$3"
    grep -qE "$2" "$work/sanitizer.txt"
}

environment() { "$python" bench/session.py environment | tee "$parts/environment.json"; }
export -f environment is_importable install tests train checked raced watched sanitized found
export dry device python work parts OUT WHEELS

# What is asked of a card, and the little that shows that this script is right.
if [ -n "$dry" ]; then
    pytest_options=(-n 0 -k "(cuda and softmax) or there_is_a_card or memory_of_sources")
    check_options="softmax --mode card --fuzz 2"
    train_options="--limit 128 --epochs 1"
    race_options=(--rehearse)
    suite="conv2d --suite lenet5 --batch 1 --device cpu" # a stand-in has no speed to be proven
    short_run="--cases 1 --only relu,softmax,dense --no-lenet"
else
    workers=$(nproc)
    [ "$workers" -le 8 ] || workers=8
    pytest_options=(-n "$workers")
    check_options="--all --mode card --fuzz 4"
    train_options="--limit 2000 --epochs 2"
    race_options=(--seconds 80 --json "$OUT/race.json")
    suite="--suite alexnet --seconds 100"
    short_run="--cases 1"
fi

checks() {
    step "stand-ins" 60 session.log "$python" -m bench.confirm_standins --device $device \
        --json "$parts/standins.json"
    step "tests" 150 tests.log bash -c 'tests "$@"' tests "${pytest_options[@]}"
    step "kernels" 100 tests.log bash -c "checked $check_options"
    step "streams" 60 tests.log "$python" -m pytest -p bench.findings --tb=short --no-summary \
        tests/kernels/test_cheats.py -p no:cacheprovider -q -n 0 -m gpu
    step "train" 80 session.log bash -c "train $train_options"
}

race() {
    step "race" 110 session.log "$python" -m bench lenet alexnet alexnet-inference \
        --device $device "${race_options[@]}"
    step "layers" 140 session.log bash -c "raced $suite"
}

sanitizers() {
    local tool besides
    if ! command -v compute-sanitizer >/dev/null; then
        note "compute-sanitizer" 0 failed "not on the path, nor in /usr/local/cuda/bin"
        return
    fi
    step "memcheck finds a planted bug" 40 sanitizer.log \
        bash -c "found memcheck 'ERROR SUMMARY: [1-9]' overrun"
    step "racecheck finds a planted bug" 40 sanitizer.log \
        bash -c "found racecheck 'RACECHECK SUMMARY: [1-9]' race"
    for tool in memcheck racecheck initcheck synccheck; do
        besides=
        case $tool in racecheck | initcheck) besides=--no-cublas ;; esac
        step "$tool" 75 sanitizer.log bash -c "sanitized $tool $short_run $besides"
    done
}

step "install" 90 session.log bash -c install
step "environment" 40 session.log bash -c environment
for one in checks race sanitizers; do
    case $part in all | "$one") "$one" ;; esac
done

printf '\n== steps\n'
summary
code=$?
echo "$SECONDS s; results in $OUT"
exit $code
