"""Models as ONNX files: the same answers as torch's, whatever the batch and whatever was clicked."""

import numpy as np
import onnx
import pytest
import torch

from petseg_utils.data.drawing.breeds import BREEDS
from petseg_utils.data.drawing.pictures import draw_pet
from petseg_utils.models.cards import SHIPPED
from petseg_utils.models.decoder import Decoder, FrozenSegmenter
from petseg_utils.models.encoders import load_encoder
from petseg_utils.models.exported import CLICK_HEAD, DECODER, ENCODER, ExportedModel
from petseg_utils.models.prompts import Box, Click, Scribble
from petseg_utils.segmenter import Segmenter
from petseg_utils.study import PetsegError
from petseg_utils.training.export import _export, export
from petseg_utils.training.torch_model import TorchModel
from petseg_utils.training.train import trained_checkpoint
from tests.models.tiny_clip import register

# What neither a browser nor an old runtime should have to do.
HEAVY = {"NonZero", "Unique", "Det", "DFT", "Loop", "If", "Scan"}
STATES = (  # prompts in parts of the photo's sides
    [Click(0.5, 0.5)],
    [Click(0.1, 0.1, positive=False)],
    [Box(0.2, 0.2, 0.8, 0.9)],
    [Box(0.2, 0.2, 0.8, 0.9), Click(0.4, 0.5), Click(0.7, 0.8, positive=False)],
    [Scribble(((0.3, 0.3), (0.5, 0.4), (0.6, 0.6)))],
    [Scribble(((0.3, 0.3), (0.5, 0.4)), positive=False), Click(0.5, 0.6)],
)


@pytest.fixture(scope="module")
def drawn():
    return [draw_pet(BREEDS[number], number)[0] for number in range(10)]


def placed(prompt, height, width):
    if isinstance(prompt, Click):
        return Click(prompt.x * width, prompt.y * height, prompt.positive)
    if isinstance(prompt, Box):
        return Box(prompt.x0 * width, prompt.y0 * height, prompt.x1 * width, prompt.y1 * height)
    return Scribble(tuple((x * width, y * height) for x, y in prompt.points), prompt.positive)


def test_what_ships_answers_as_torch_does(drawn):
    """In half precision, which turns over a pixel of a thousand at the most."""
    for name in ("decoder", "point"):
        exported, by_torch = (Segmenter.load(name, runtime=runtime) for runtime in ("onnx", "torch"))
        assert exported.card["model"] == name and exported.model.digest == by_torch.model.digest
        assert exported.card | {"multiply_adds": None} == by_torch.card | {"multiply_adds": None}
        equal = np.mean([(exported.predict(image) == by_torch.predict(image)).mean() for image in drawn])
        assert equal >= 0.999


@pytest.mark.parametrize("target", ["pet", "clicked"])
def test_what_ships_selects_as_torch_does_in_every_state(drawn, target):
    exported, by_torch = (Segmenter.load("point", runtime=runtime) for runtime in ("onnx", "torch"))
    equal = []
    for image in drawn[:4]:
        for said in STATES:
            photos = [segmenter.open(image, target) for segmenter in (exported, by_torch)]
            for photo in photos:
                for prompt in said:
                    photo.add(placed(prompt, *image.shape[:2]))
            assert photos[0].label == photos[1].label
            equal.append((photos[0].mask == photos[1].mask).mean())
    assert np.mean(equal) >= 0.999 and min(equal) >= 0.99


def test_a_batch_is_answered_as_its_pictures_are_alone(drawn):
    model = Segmenter.load("point", runtime="onnx")
    squares = model.squares(drawn[:3])
    together = model.model.look(squares)
    for row in range(3):
        alone = model.model.look(squares[row : row + 1])
        np.testing.assert_allclose(together.logits[row], alone.logits[0], atol=1e-3)


def test_the_files_that_ship_are_small_and_tell_where_they_come_from():
    files = [SHIPPED / name for name in (ENCODER, DECODER, CLICK_HEAD)]
    assert sum(file.stat().st_size for file in files) < 10e6
    for file in files:
        model = onnx.load(file)
        operations = {node.op_type for node in model.graph.node}
        assert not operations & HEAVY and not any(len(node.metadata_props) for node in model.graph.node)
        assert "site-packages" not in str(model.metadata_props)
    for name, file in (("decoder", DECODER), ("point", CLICK_HEAD)):
        assert ExportedModel(SHIPPED / file).card["model"] == name


@pytest.mark.long
def test_own_checkpoints_are_exported_and_the_encoder_stays_the_same_file(study, splits, tmp_path):
    paths = {name: trained_checkpoint(name, study, 0, splits, progress=False) for name in ("unet", "decoder", "point")}
    image = np.array(splits["test"].images[0])
    (unet,) = export(paths["unet"], tmp_path)
    assert unet.name == "unet.onnx"
    files = export(paths["point"], tmp_path)
    assert [file.name for file in files] == [ENCODER, DECODER, CLICK_HEAD]
    for name, file in (("unet", unet), ("decoder", tmp_path / DECODER), ("point", files[-1])):
        exported, by_torch = (Segmenter.load(weights=path) for path in (file, paths[name]))
        assert exported.card["model"] == name and exported.takes_prompts == (name == "point")
        seen = [segmenter.model.look(segmenter.squares([image])).logits for segmenter in (exported, by_torch)]
        assert np.abs(seen[0] - seen[1]).max() < 0.1 * np.abs(seen[1]).max()
    before = files[0].stat().st_mtime_ns, files[0].read_bytes()
    export(paths["decoder"], tmp_path)
    assert (files[0].stat().st_mtime_ns, files[0].read_bytes()) == before
    with pytest.raises(PetsegError, match=r"decoder.onnx beside click_head.onnx is not the one it was exported with"):
        Segmenter.load(weights=files[-1])  # its card says so: it is of another checkpoint now


def test_files_that_are_no_exported_models_are_refused_in_one_line(tmp_path):
    for name in (ENCODER, DECODER, CLICK_HEAD):
        (tmp_path / name).write_bytes((SHIPPED / name).read_bytes())
    head = tmp_path / CLICK_HEAD
    assert ExportedModel(head).takes_prompts
    with pytest.raises(PetsegError, match=r"^decoder.onnx is not for the runtime torch, which takes a checkpoint"):
        Segmenter.load(weights=tmp_path / DECODER, runtime="torch")
    with pytest.raises(PetsegError, match=r"^unet.safetensors is not for the runtime onnx, .*petseg export writes it"):
        Segmenter.load(weights=SHIPPED / "unet.safetensors", runtime="onnx")
    with pytest.raises(PetsegError, match=r"^Unknown runtime 'tf': use one of onnx, torch\.$"):
        Segmenter.load(runtime="tf")
    with pytest.raises(PetsegError, match=r"^No weights ship for unet for the runtime onnx"):
        Segmenter.load("unet", runtime="onnx")
    with pytest.raises(PetsegError, match=r"^encoder.onnx was not written by petseg export\.$"):
        ExportedModel(tmp_path / ENCODER)
    (tmp_path / ENCODER).unlink()
    with pytest.raises(PetsegError, match=r"^No file encoder.onnx"):
        ExportedModel(head)
    (tmp_path / ENCODER).write_bytes(b"nothing")
    with pytest.raises(PetsegError, match="is not the one it was exported with"):
        ExportedModel(head)
    head.write_bytes(head.read_bytes()[:1000])
    with pytest.raises(PetsegError, match=r"^click_head.onnx is damaged, or not an ONNX file"):
        ExportedModel(head)


def test_a_model_that_makes_no_masks_is_not_exported(study, splits, tmp_path):
    path = trained_checkpoint("autoencoder", study, 0, splits, progress=False)
    with pytest.raises(PetsegError, match="holds the model autoencoder, which makes no masks"):
        export(path, tmp_path)
    with pytest.raises(PetsegError, match="holds the model autoencoder, which makes no masks"):
        Segmenter.load(weights=path)


@pytest.mark.long
@torch.no_grad()
def test_a_decoder_on_clip_is_exported_too(tmp_path):
    register(tmp_path, "tiny-export")
    encoder = load_encoder("clip:tiny-export/random", 64)
    network = FrozenSegmenter(encoder, Decoder(encoder.channels, encoder.strides, width=16)).eval()
    card = {"model": "decoder", "image_size": 64, "study": "none", "seed": 0, "epoch": 0, "settings": {}}
    card |= {"encoder": encoder.identity, "encoder_spec": "clip:tiny-export/random"}
    *_, file = _export(network, card, "", tmp_path / "out")
    squares = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    by_torch = TorchModel(network, card).look(squares).logits
    assert np.abs(ExportedModel(file).look(squares).logits - by_torch).max() < 0.02 * np.abs(by_torch).max()
