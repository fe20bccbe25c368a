#!/usr/bin/env bash
# Make bench/.venv-mergekit: mergekit from PyPI, with its own pins, apart from ours.
set -euo pipefail
cd "$(dirname "$0")"
python=$(command -v python3.11 || command -v python3)
test -x .venv-mergekit/bin/python || "$python" -m venv .venv-mergekit
pip="$PWD/.venv-mergekit/bin/python -m pip install --quiet --disable-pip-version-check"
$pip torch==2.13.0
$pip mergekit==0.1.4
