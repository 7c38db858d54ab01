"""GrabCut and IS-Net are given what they want, and their masks lie where the photo's pet does."""

import json

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper

from petseg_utils.data.datasets import list_pictures
from petseg_utils.data.pictures import decode
from petseg_utils.experiments import other_tools
from petseg_utils.experiments.other_tools import (
    box_around,
    grabcut,
    grabcut_masks,
    isnet_masks,
    read_other_tools,
    tools_in_words,
    tools_table,
)
from petseg_utils.models.cards import sha256
from petseg_utils.models.prompts import Box
from petseg_utils.scores.clicks import picture_iou
from petseg_utils.study import load_study
from petseg_utils.training.checkpoints import find_checkpoint
from tests.conftest import write_data


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "pets", 4, 6)


@pytest.fixture
def pictures(data, tmp_path):
    return decode(list_pictures(data, "test"), 64, load_study("smoke").cache_dir, scale=2, progress=False)


def iou(pictures, masks: np.ndarray) -> np.ndarray:
    return picture_iou(np.isin(pictures.labels, (1, 2)), masks, np.asarray(pictures.labels) < 254)


def fake_package(folder, monkeypatch):
    """An npm package whose model takes for the foreground what is bright; its file comes in two parts."""
    monkeypatch.setattr(other_tools, "ISNET_SIZE", 96)
    nodes = [helper.make_node("ReduceMax", ["input"], ["output"], axes=[1], keepdims=1)]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, 96, 96])
        for name, channels in (("input", 3), ("output", 1))
    ]
    graph = helper.make_graph(nodes, "isnet", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    model.graph.node[0].output[0] = "brightest"
    model.graph.initializer.append(helper.make_tensor("half", TensorProto.FLOAT, [], [0.45]))
    model.graph.node.append(helper.make_node("Add", ["brightest", "half"], ["output"]))  # 142 of 255 is above 0.5
    whole = model.SerializeToString()
    (folder / "dist").mkdir(parents=True)
    parts = {"aa": whole[:100], "bb": whole[100:]}
    for name, part in parts.items():
        (folder / "dist" / name).write_bytes(part)
    listed = {"/models/medium": {"chunks": [{"hash": name} for name in parts]}}
    (folder / "dist" / "resources.json").write_text(json.dumps(listed))
    onnx.checker.check_model(onnx.load_model_from_string(other_tools.isnet_weights(folder)))
    return folder


def test_grabcut_finds_what_differs_from_its_surroundings_within_the_box(pictures):
    pets = np.isin(pictures.labels, (1, 2))
    masks = grabcut_masks(pictures, [box_around(pet) for pet in pets])
    assert (iou(pictures, masks) > 0.9).all()
    assert not grabcut_masks(pictures, [None] * len(pictures)).any()


def test_of_a_box_that_covers_the_picture_grabcut_takes_all():
    picture = np.zeros((20, 30, 3), np.uint8)
    assert grabcut(picture, Box(-5, -5, 40, 40)).all()


def test_a_box_holds_the_pet_and_stays_in_the_picture():
    pet = np.zeros((50, 60), bool)
    pet[10:31, 20:60] = True
    assert box_around(pet) == Box(20 - 1.95, 10 - 1.95, 59, 30 + 1.95)


def test_what_isnet_cuts_out_lies_where_the_pet_does(data, pictures, tmp_path, monkeypatch):
    masks = isnet_masks(fake_package(tmp_path / "package", monkeypatch), data, pictures)
    assert (iou(pictures, masks) > 0.9).all()


def test_the_table_has_a_column_for_each_source():
    rows = [
        {"source": source, "tool": tool, "told": "nothing", "n_images": 9, "iou": 0.5, "low": 0.4, "high": 0.6}
        for source in ("home", "away")
        for tool in ("petseg", "IS-Net")
    ]
    shown = tools_table(pd.DataFrame(rows))
    assert list(shown.columns) == ["home (9)", "away (9)"] and shown.index.tolist() == [
        ("petseg", "nothing"),
        ("IS-Net", "nothing"),
    ]


def test_the_committed_table_is_of_the_weights_that_ship():
    table = read_other_tools()
    assert set(table["weights"]) == {sha256(find_checkpoint("point", None))}
    for _, rows in table.groupby(["source", "told"]):
        own, other = rows.iloc[0], rows.iloc[1]
        assert own["tool"] == "petseg" and other["less"] == pytest.approx(own["iou"] - other["iou"], abs=2e-4)


def test_who_is_ahead_is_said_where_the_interval_allows_it():
    gap = {"tool": "IS-Net", "told": "nothing", "less": 0.1}
    rows = [
        {"source": "home", "tool": "petseg", "told": "nothing"},
        gap | {"source": "home", "less low": 0.05, "less high": 0.15},
        gap | {"source": "away", "less low": -0.05, "less high": 0.25},
        gap | {"source": "far", "less": -0.1, "less low": -0.2, "less high": -0.05},
    ]
    assert tools_in_words(pd.DataFrame(rows)) == (
        "petseg less IS-Net, both given nothing: +0.100 [+0.050, +0.150] (home: ahead), "
        "+0.100 [-0.050, +0.250] (away: no difference is shown), -0.100 [-0.200, -0.050] (far: behind)."
    )
