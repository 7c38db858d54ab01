import signal
import subprocess
import sys

import pytest

from petseg_utils.study import PetsegError
from petseg_utils.study.folders import LOCK, alone_in, delete_unfinished, made_aside

by_signals = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows ends processes in another way")
KILLED = """
import os, pathlib, signal, sys
from petseg_utils.study.folders import alone_in, made_aside
place = pathlib.Path(sys.argv[1])
with alone_in(place, "training", "wait"), made_aside(place) as folder:
    (folder / "large").write_bytes(bytes(1000))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def left_by_a_killed_process(place):
    assert subprocess.run([sys.executable, "-c", KILLED, place]).returncode == -signal.SIGKILL
    return [path for path in place.iterdir() if path.is_dir()]


def test_a_folder_in_use_is_told_in_a_sentence_and_free_afterwards(tmp_path):
    with alone_in(tmp_path, "training", "name another place by PETSEG_RUNS"):
        with (
            pytest.raises(
                PetsegError, match=r"^Another training is writing to \S+: wait for it to end, or name another"
            ),
            alone_in(tmp_path, "training", "name another place by PETSEG_RUNS"),
        ):
            pass
        assert (tmp_path / LOCK).is_file()  # who was refused takes no lock away
    assert list(tmp_path.iterdir()) == []
    with alone_in(tmp_path, "training", ""):
        pass


@by_signals
def test_what_a_killed_process_left_is_deleted_and_what_a_living_one_makes_is_not(tmp_path):
    with made_aside(tmp_path) as living:
        (living / "mine").touch()
        (dead,) = set(left_by_a_killed_process(tmp_path)) - {living}
        with alone_in(tmp_path, "training", ""), made_aside(tmp_path) as another:  # its locks died with it
            assert not dead.exists()
            assert (living / "mine").is_file()
            delete_unfinished(tmp_path)
            assert another.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_what_was_made_aside_stays_where_it_was_moved(tmp_path):
    with made_aside(tmp_path / "new") as folder:
        (folder / "file").touch()
        folder.rename(tmp_path / "place")
    assert (tmp_path / "place" / "file").is_file() and list((tmp_path / "new").iterdir()) == []
