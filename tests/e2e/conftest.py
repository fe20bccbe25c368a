"""What tests of the command line share."""

from __future__ import annotations

import sys

import pytest

from mergery.cli import main


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line in this process; its exit code, output and errors."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mergery", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return call
