"""Hugging Face ids: fetched from a hub on this machine, by the hub's own client."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import xxhash
from safetensors.numpy import load_file

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """What a download asks for, for one repository."""

    def __init__(self, *arguments: object, directory: Path) -> None:
        self._directory = directory
        super().__init__(*arguments)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        files = sorted(self._directory.iterdir())
        if path.startswith("/api/models/org/name/tree/"):
            tree = [
                {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": file.name}
                for file in files
            ]
            self._send(json.dumps(tree).encode(), body)
        elif path.startswith("/api/models/org/name"):
            siblings = [{"rfilename": file.name} for file in files]
            found = {"id": "org/name", "sha": COMMIT, "siblings": siblings}
            self._send(json.dumps(found).encode(), body)
        elif path.startswith("/org/name/resolve/"):
            self._send((self._directory / path.rpartition("/")[2]).read_bytes(), body)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _send(self, content: bytes, body: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def endpoint(make_model) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, directory=make_model("served")))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def mergery(endpoint: str, cache: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "mergery", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_model_is_fetched_by_its_id_and_its_commit_is_recorded(endpoint, tmp_path):
    recipe = tmp_path / "recipe.yml"
    recipe.write_text("merge_method: passthrough\nmodels: [{model: org/name}]\n")
    done = mergery(endpoint, tmp_path / "cache", "merge", recipe, tmp_path / "out", "-q")
    assert done.returncode == 0, done.stderr
    lock = json.loads((tmp_path / "out" / "mergery.lock.json").read_text())
    assert lock["inputs"]["org/name"]["commit"] == COMMIT
    card = (tmp_path / "out" / "README.md").read_text()
    assert "base_model:\n- org/name" in card
    served = tmp_path / "served" / "model.safetensors"
    held = load_file(served)
    lines = [f"{name} {xxhash.xxh3_128(held[name].tobytes()).hexdigest()}\n" for name in sorted(held)]
    assert lock["inputs"]["org/name"]["tensors"] == len(held)
    assert lock["inputs"]["org/name"]["xxh3_128"] == xxhash.xxh3_128("".join(lines).encode()).hexdigest()


def test_a_model_that_the_hub_does_not_have(endpoint, tmp_path):
    done = mergery(endpoint, tmp_path / "cache", "inspect", "org/other")
    assert done.returncode == 2
    assert "no such model on the Hugging Face hub" in done.stderr


def test_a_hub_that_does_not_answer(tmp_path):
    done = mergery("http://127.0.0.1:9", tmp_path / "cache", "inspect", "org/name")
    assert done.returncode == 2
    assert "the Hugging Face hub cannot be reached" in done.stderr
