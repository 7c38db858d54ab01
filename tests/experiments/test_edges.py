"""Soft edges are measured where the truth is known."""

import numpy as np
import pandas as pd
import pytest

from petseg_utils.data.drawing.breeds import BREEDS
from petseg_utils.experiments import edges


def test_the_true_edge_has_no_error_and_a_moved_one_has():
    true = np.zeros((60, 80), np.uint8)
    true[20:40, 20:60], true[19] = 255, np.where((np.arange(80) >= 20) & (np.arange(80) < 60), 128, 0)
    assert edges.edge_scores(true, true) == {"boundary IoU": 1.0, "alpha error": 0.0}
    moved = edges.edge_scores(np.roll(true, 3, 0), true)
    assert moved["boundary IoU"] < 0.5 and moved["alpha error"] > 0.1


def test_the_photos_own_edges_are_nearer_to_the_true_one(monkeypatch):
    monkeypatch.setattr(edges, "ENLARGEMENT", 2)
    table = edges.compare_edges(BREEDS[::12]).set_index(["mask", "edge"])
    hard, soft = (table.loc[("the true mask", edge)] for edge in ("hard", "soft"))
    assert soft["boundary IoU"] > hard["boundary IoU"] and soft["alpha error"] < hard["alpha error"]


@pytest.mark.long
def test_the_committed_table_is_what_comes_out_today():
    committed, today = pd.read_csv(edges.EDGES), edges.compare_edges(BREEDS[::2])
    for name in ("boundary IoU", "alpha error"):
        np.testing.assert_allclose(today[name], committed[name], atol=0.003)
