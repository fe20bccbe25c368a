#!/usr/bin/env bash
# Make bench/.venv-mergekit: mergekit from PyPI, with its own pins, apart from ours.
set -euo pipefail
cd "$(dirname "$0")"
python=$(command -v python3.11 || command -v python3)
test -x .venv-mergekit/bin/python || "$python" -m venv .venv-mergekit
pip="$PWD/.venv-mergekit/bin/python -m pip install --quiet --disable-pip-version-check"
$pip torch==2.13.0
$pip mergekit==0.1.4

# Two methods, ram and ramplus_tl, came after the release, under the same version number: one file of mergekit's
# repository, for the comparison of values only. Without it, these two methods are not compared.
commit=a6e402884ba9bc30da7f23e8304a35f19485de95
ram=$(.venv-mergekit/bin/python -c \
  'import importlib.util as i; print(i.find_spec("mergekit").submodule_search_locations[0])')/merge_methods/ram.py
test -f "$ram" || curl --fail --silent --show-error --location --max-time 60 --output "$ram" \
  "https://raw.githubusercontent.com/arcee-ai/mergekit/$commit/mergekit/merge_methods/ram.py" ||
  echo "peers.sh: ram.py is out of reach; ram and ramplus_tl will not be compared" >&2
