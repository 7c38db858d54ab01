"""Running a study again: its table is compared with the committed one."""

import shutil

import pandas as pd
import pytest

from petseg_utils.experiments.study_records import committed_records
from petseg_utils.scores.results import report_tables, results_table
from petseg_utils.study import ROOT, PetsegError
from tools import compare_tables
from tools.compare_tables import TOLERANCE, differences


def test_tables_differ_where_a_score_moves_by_more_than_the_tolerance():
    then = results_table(committed_records("sample"))
    assert differences(then, then, 0) == []
    moved = then.assign(mIoU=then["mIoU"] + 0.9 * TOLERANCE)
    assert differences(moved, then) == [] and len(differences(moved, then, 0)) == len(then)
    far = then.assign(mIoU=then["mIoU"] + 1.1 * TOLERANCE)
    assert len(differences(far, then)) == len(then) and "mIoU is" in differences(far, then)[0]


def test_tables_differ_where_a_count_or_a_row_does():
    then = results_table(committed_records("sample"))
    assert "n_images is" in differences(then.assign(n_images=1), then)[0]
    assert "only in the committed table" in differences(then.iloc[1:], then)[0]
    assert "not in the committed table" in differences(then, then.iloc[1:])[0]


@pytest.mark.parametrize("name", ["sample", "oxford-cpu", "oxford-gpu", "shipped"])
def test_the_committed_tables_are_those_of_the_committed_records(name):
    folder, records = ROOT / "figures" / name, committed_records(name)
    written = pd.read_csv(folder / "results.csv")
    assert differences(results_table(records), written, 0) == []
    assert (folder / "results.md").read_text(encoding="utf-8") == report_tables(records)


@pytest.mark.parametrize("git", [True, False])
def test_in_an_archive_of_the_project_the_table_that_lies_there_is_compared(git, tmp_path, monkeypatch):
    """A ZIP from GitHub holds no history; and git is not on every machine."""
    (tmp_path / "figures" / "sample").mkdir(parents=True)
    shutil.copy(ROOT / "figures" / "sample" / "results.csv", tmp_path / "figures" / "sample")
    monkeypatch.setattr(compare_tables, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    if not git:
        monkeypatch.setenv("PATH", str(tmp_path))
    assert differences(compare_tables.committed_table("sample"), pd.read_csv(ROOT / "figures/sample/results.csv")) == []
    with pytest.raises(PetsegError, match=r"No committed results\.csv of study 'mine'"):
        compare_tables.committed_table("mine")
