"""Running a study again: its table is compared with the committed one."""

import pandas as pd
import pytest

from petseg_utils.experiments.study_records import committed_records
from petseg_utils.scores.results import report_tables, results_table
from petseg_utils.study import ROOT
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
