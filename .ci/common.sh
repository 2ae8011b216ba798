# What .ci/run and .ci/deep share: a fresh virtual environment, timed steps, an honest exit code.
# Sourced by them, from the root of the checkout.

TORCH=2.13.0
TORCH_INDEX=https://download.pytorch.org/whl/cpu

work=$(mktemp -d "${TMPDIR:-/tmp}/gpukit-ci.XXXXXX")
trap 'rm -rf "$work"' EXIT

# Neither a checkout on the path nor a warm cache may help.
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV PIP_REQUIRE_VIRTUALENV PIP_TARGET PIP_USER
export GPUKIT_CACHE="$work/cache"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PYTHONUNBUFFERED=1
export PIP_COMPILE=0 # to bytecode: of PyTorch and SymPy, most is never imported

# setuptools leaves its copies of the package here, also of modules that are gone since.
rm -rf build/lib build/bdist.*

failed=()
report=()

# step NAME COMMAND…: run it, time it, remember how it went.
step() {
    local name=$1 start=$SECONDS code=0
    shift
    printf '\n== %s\n' "$name"
    "$@" </dev/null || code=$?
    report+=("$(printf '%5d s  %-4s  %s' $((SECONDS - start)) "$([ $code = 0 ] && echo ok || echo FAIL)" "$name")")
    [ $code = 0 ] || failed+=("$name")
    return $code
}

# finish: the table of steps; fails where one of them did.
finish() {
    printf '\n== steps\n'
    printf '%s\n' "${report[@]}"
    [ ${#failed[@]} = 0 ]
}

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return 0
        fi
    done
    echo "no Python of 3.11 or later here; install one, or name it with PYTHON=…" >&2
    return 1
}

# fresh_environment: make $work/venv and put it first on the path.
fresh_environment() {
    local python
    python=$(find_python) || return 1
    "$python" --version
    # Debian keeps ensurepip in a package of its own (python3-venv); virtualenv brings a pip along.
    if ! "$python" -c 'import ensurepip' 2>/dev/null || ! "$python" -m venv "$work/venv"; then
        rm -rf "$work/venv"
        "$python" -m pip install --quiet --target "$work/virtualenv" virtualenv &&
            PYTHONPATH="$work/virtualenv" "$python" -m virtualenv --quiet "$work/venv" || return 1
    fi
    export PATH="$work/venv/bin:$PATH" VIRTUAL_ENV="$work/venv"
    hash -r
    pip --version
}

# PyTorch is an oracle of the tests and no dependency: without it they skip, visibly. On Linux only
# the CPU build is taken, the usual one would be gigabytes.
install_oracle() {
    if [ "$(uname)" = Darwin ]; then
        pip install --quiet "torch==$TORCH" && return 0
    else
        pip install --quiet "torch==$TORCH+cpu" 2>/dev/null && return 0
        pip install --quiet --retries 1 --timeout 30 --extra-index-url "$TORCH_INDEX" \
            "torch==$TORCH+cpu" && return 0
    fi
    echo "PyTorch $TORCH cannot be installed here: the tests that need it will be skipped"
}

# json_of FILE KEY: the value in the JSON object that is the last line of FILE.
json_of() {
    python -c 'import json, sys
print(json.loads(open(sys.argv[1]).read().splitlines()[-1])[sys.argv[2]])' "$1" "$2"
}
