"""A search whose record is in PostgreSQL, on a server of its own. `make cluster` runs it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import yaml

from mergery.errors import StudyError
from mergery.evolve import SearchSpec, evolve
from mergery.evolve.reading import StudyReading
from unit.evolve.conftest import search  # noqa: F401 - a fixture

pytest.importorskip("psycopg")
if shutil.which("initdb") is None:
    pytest.skip("no PostgreSQL here", allow_module_level=True)
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def server():
    """A fresh server on loopback; PostgreSQL refuses to run as root, so root runs it as nobody."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as directory:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        user = {}
        if os.getuid() == 0:
            user = {"user": "nobody"}
            shutil.chown(directory, "nobody")
        run = partial(subprocess.run, check=True, stdout=subprocess.DEVNULL, cwd=directory, **user)
        run(["initdb", "-D", directory, "-U", "breeder", "-A", "trust", "--no-sync"])
        options = (
            f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={directory} -c fsync=off"
        )
        control = ["pg_ctl", "-D", directory, "-w", "-l", f"{directory}/log"]
        run([*control, "-o", options, "start"])
        yield f"postgresql://breeder:secret@127.0.0.1:{port}/postgres"
        run([*control, "-m", "fast", "stop"])


def essence(trials):
    return [(trial.genome, trial.score, trial.recipe) for trial in trials]


def test_a_search_is_the_same_as_in_a_file(search, server, tmp_path):  # noqa: F811
    spec = SearchSpec.from_dict(search)
    held = replace(spec, search=replace(spec.search, storage=server))
    filed, kept = evolve(spec, tmp_path / "file"), evolve(held, tmp_path / "database")
    assert essence(kept.trials) == essence(filed.trials)
    assert not (tmp_path / "database" / "study" / "journal.log").exists()
    read = StudyReading.open(tmp_path / "database")
    assert essence(read.trials) == essence(filed.trials)
    again = evolve(held, tmp_path / "database", progress=lambda step: pytest.fail("asked again"))
    assert again.best == kept.best


def test_killed_it_goes_on(search, server, tmp_path):  # noqa: F811
    search["search"] |= {"seed": 8, "trials": 40}
    plain = evolve(SearchSpec.from_dict(search), tmp_path / "whole")
    search["search"]["storage"] = server
    (tmp_path / "search.yml").write_text(yaml.safe_dump(search))
    command = [sys.executable, "-m", "mergery", "evolve", tmp_path / "search.yml", tmp_path / "out"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    out = tmp_path / "out"
    while first.poll() is None:
        time.sleep(0.05)
        name = out / "study" / "name"
        if name.is_file() and sum(trial.told is not None for trial in StudyReading.open(out).trials) >= 5:
            first.send_signal(signal.SIGKILL)
    first.wait()
    before = len(StudyReading.open(out).trials)
    assert 5 <= before < 40, "it had ended before it was killed"
    # on another machine: the directory is gone, and the record is where all reach it
    shutil.rmtree(out)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert essence(StudyReading.open(out).trials) == essence(plain.trials)
    assert (out / "best.yml").read_bytes() == (tmp_path / "whole" / "best.yml").read_bytes()


def test_what_cannot_be_reached_is_said_without_the_password(search, tmp_path):  # noqa: F811
    search["search"]["storage"] = "postgresql://breeder:secret@127.0.0.1:1/none"
    with pytest.raises(StudyError, match=r"^search\.storage: postgresql://breeder:\*\*\*@") as raised:
        evolve(SearchSpec.from_dict(search), tmp_path / "out")
    assert "secret" not in str(raised.value)
    assert Path(tmp_path / "out" / "study").is_dir()
