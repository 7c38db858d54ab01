"""ONNX files of strangers: refused in a line, before they make masks."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from petseg_utils.models.cards import SHIPPED
from petseg_utils.models.exported import CLICK_HEAD, DECODER, ENCODER, ExportedModel
from petseg_utils.segmenter import Segmenter
from petseg_utils.study import ROOT, PetsegError

FILES = (ENCODER, DECODER, CLICK_HEAD)


@pytest.fixture
def folder(tmp_path):
    """The click model that ships, as somebody else's files."""
    for name in FILES:
        shutil.copy(SHIPPED / name, tmp_path)
    return tmp_path


def written(folder, name, change):
    """Change a file's model, and the sums of it in those beside it, as whoever means harm would."""
    model = onnx.load(folder / name)
    change(model)
    (folder / name).write_bytes(model.SerializeToString())
    for other in FILES[FILES.index(name) + 1 :]:
        model = onnx.load(folder / other)
        told = {entry.key: entry.value for entry in model.metadata_props}
        sums = {key: hashlib.sha256((folder / key).read_bytes()).hexdigest() for key in json.loads(told["beside"])}
        onnx.helper.set_model_props(model, told | {"beside": json.dumps(sums)})
        onnx.save(model, folder / other)


def tell(**told):
    def change(model):
        before = {entry.key: entry.value for entry in model.metadata_props}
        onnx.helper.set_model_props(model, before | told)

    return change


def tell_card(**entries):
    def change(model):
        before = {entry.key: entry.value for entry in model.metadata_props}
        onnx.helper.set_model_props(model, before | {"card": json.dumps(json.loads(before["card"]) | entries)})

    return change


def spoil(value, kind):
    """Put a value into the first weights of a kind."""

    def change(model):
        tensor = next(tensor for tensor in model.graph.initializer if tensor.data_type == kind and tensor.dims)
        values = numpy_helper.to_array(tensor).copy()
        values.flat[0] = value
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    return change


def spoil_floats(model):
    """The same, where the numbers stand one by one."""
    tensor = next(tensor for tensor in model.graph.initializer if tensor.data_type == 1 and tensor.dims)
    values = numpy_helper.to_array(tensor).ravel().tolist()
    tensor.ClearField("raw_data")
    tensor.float_data.extend([float("nan"), *values[1:]])


def spoil_a_constant(model):
    node = onnx.helper.make_node(
        "Constant", [], ["unused"], value=numpy_helper.from_array(np.array([np.inf], np.float32))
    )
    model.graph.node.insert(0, node)


def test_onnx_runtime_keeps_nothing_to_send_to_its_makers(tmp_path):
    """Left alone it has an identifier and a queue of events in the home folder."""
    code = "from petseg_utils.segmenter import Segmenter; Segmenter.load('decoder')"
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert not list(tmp_path.rglob("*onnx*"))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "change", [spoil(np.nan, 1), spoil(-np.inf, 1), spoil(np.nan, 10), spoil_floats, spoil_a_constant]
)
def test_weights_that_are_no_numbers_are_refused(folder, name, change):
    written(folder, name, change)
    with pytest.raises(PetsegError, match=rf"^{name} is damaged: its weights are not finite everywhere\.$"):
        Segmenter.load(weights=folder / CLICK_HEAD)


@pytest.mark.parametrize("name", FILES)
def test_weights_that_give_no_numbers_give_no_mask(folder, name):
    """Each of them is a number, and what comes out is none."""

    def change(model):
        for tensor in model.graph.initializer:
            if tensor.data_type == 1 and len(tensor.dims) == 1:
                values = np.full(list(tensor.dims), 3e38, np.float32)
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    written(folder, name, change)
    photo = np.full((40, 60, 3), 130, np.uint8)
    with pytest.raises(PetsegError, match=r"^click_head\.onnx gives no mask: its weights are damaged\.$"):
        Segmenter.load(weights=folder / CLICK_HEAD).open(photo).click(30, 20)


def ask_for_memory(model):
    """Add to the logits the largest of 4 TB of zeros."""
    edges = np.array([10_000, 10_000, 10_000])
    (last,) = [node for node in model.graph.node if "logits" in node.output]
    last.output[list(last.output).index("logits")] = "before"
    model.graph.initializer.append(numpy_helper.from_array(edges, "edges"))
    model.graph.node.extend(
        [
            onnx.helper.make_node("ConstantOfShape", ["edges"], ["zeros"]),
            onnx.helper.make_node("ReduceMax", ["zeros"], ["largest"], keepdims=0),
            onnx.helper.make_node("Add", ["before", "largest"], ["logits"]),
        ]
    )


def test_a_file_that_asks_for_more_memory_than_there_is_costs_one_line(folder, capfd):
    written(folder, DECODER, ask_for_memory)
    with pytest.raises(PetsegError, match=r"^click_head\.onnx needs more memory than there is\.$|^decoder\.onnx needs"):
        Segmenter.load(weights=folder / CLICK_HEAD).open(np.full((40, 60, 3), 130, np.uint8)).click(30, 20)
    assert capfd.readouterr() == ("", "")  # ONNX Runtime would write a line of its own


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (tell_card(image_size=0), "image_size is 0"),
        (tell_card(image_size="224"), "image_size is '224'"),
        (tell_card(image_size=10**9), "image_size is 1000000000"),
        (tell_card(image_size=112), "does not take square photos of 112 pixels"),
        (tell_card(encoder=7), "encoder is 7"),
        (tell(card="["), "The card in click_head.onnx is damaged"),
        (tell(card="[" * 100_000), "The card in click_head.onnx is damaged"),
        (tell(beside="[]"), "was not written by petseg export under this name"),
        (tell(beside='{"../../x.onnx": ""}'), "was not written by petseg export under this name"),
        (lambda model: setattr(model.graph.output[0], "name", "chosen"), "click_head.onnx"),
    ],
)
def test_a_file_that_says_what_cannot_be_is_refused(folder, change, message):
    written(folder, CLICK_HEAD, change)
    with pytest.raises(PetsegError, match=message) as told:
        Segmenter.load(weights=folder / CLICK_HEAD)
    assert "\n" not in str(told.value)


def test_weights_in_another_file_are_not_read(folder):
    def change(model):
        onnx.external_data_helper.set_external_data(model.graph.initializer[0], "../../secret")
        model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL

    written(folder, CLICK_HEAD, change)
    with pytest.raises(PetsegError, match="keeps weights in another file, which is not read"):
        Segmenter.load(weights=folder / CLICK_HEAD)


def test_another_models_file_under_this_name_is_refused(folder):
    shutil.copy(folder / DECODER, folder / CLICK_HEAD)
    with pytest.raises(PetsegError, match="was not written by petseg export under this name"):
        ExportedModel(folder / CLICK_HEAD)
    shutil.copy(SHIPPED / CLICK_HEAD, folder / "mine.onnx")
    with pytest.raises(PetsegError, match="was not written by petseg export under this name"):
        ExportedModel(folder / "mine.onnx")


def test_what_is_kept_of_a_photo_is_no_part_of_the_runtimes_memory():
    """Which would grow with each photo that is open, and never shrink."""
    segmenter = Segmenter.load("point")
    seen = segmenter.look(segmenter.squares([np.zeros((30, 40, 3), np.uint8)]))
    for kept in (seen.logits, seen.cells, *seen.rest[0].values()):
        assert kept.flags.owndata
