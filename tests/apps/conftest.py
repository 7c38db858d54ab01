"""What the tests of several apps use."""

import sys

import pytest

from petseg_utils.apps.cli import main


@pytest.fixture
def petseg(monkeypatch, capsys):
    """Run the command line in this process; gives its exit code, and what it said."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["petseg", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main.main()
        said = capsys.readouterr()
        return end.value.code or 0, said.out, said.err

    return run
