"""Pictures without masks: species from names, nothing of the splits among them."""

import numpy as np
import pytest
from PIL import Image

from petseg_utils.data.datasets import DataError, read_image
from petseg_utils.data.labels import BORDER, PADDING
from petseg_utils.data.transforms import Letterbox
from petseg_utils.data.unlabelled import files_identity, list_unlabelled, read_unlabelled


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "more"
    root.mkdir()
    for number, name in enumerate(("Siam_1", "Siam_2", "corgi_1", "corgi_2")):
        Image.fromarray(np.full((40, 60, 3), 50 * number, np.uint8)).save(root / f"{name}.png")
    (root / "._Siam_1.png").write_bytes(b"what a Mac leaves beside a file")
    (root / "notes.txt").write_text("no picture")
    return root


def test_species_comes_from_the_name(folder):
    pictures = read_unlabelled(list_unlabelled(folder), 60, progress=False)
    assert pictures.table["name"].tolist() == ["Siam_1", "Siam_2", "corgi_1", "corgi_2"]
    assert pictures.table["species"].tolist() == [1, 1, 2, 2]
    assert pictures.table["breed"].tolist() == ["Siam", "Siam", "corgi", "corgi"]
    assert set(np.unique(pictures.labels)) == {BORDER, PADDING}  # nothing that a loss would count


def test_detail_is_read_where_it_is_asked_for(folder):
    plain, detailed = (read_unlabelled(list_unlabelled(folder), 64, scale=scale, progress=False) for scale in (1, 2))
    assert plain.detail is None and np.array_equal(plain.images, detailed.images)
    for path, square in zip(list_unlabelled(folder), detailed.at(2), strict=True):
        assert np.array_equal(square, Letterbox(40, 60, 64).image(read_image(path), 2))
    assert detailed.at(2).shape == (4, 128, 128, 3) and np.array_equal(plain.labels, detailed.labels)


def test_pictures_of_the_splits_are_left_out(folder, splits):
    taken = splits["train"].table["name"].iloc[0]
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(folder / f"{taken}.png")
    assert taken not in {path.stem for path in list_unlabelled(folder, splits)}
    assert taken in {path.stem for path in list_unlabelled(folder)}


def test_a_folder_without_pictures_is_told(tmp_path):
    with pytest.raises(DataError, match="No pictures to use in"):
        list_unlabelled(tmp_path)


def test_the_identity_of_files_is_that_of_their_names_and_sizes(folder):
    before = files_identity(list_unlabelled(folder))
    assert before["n_images"] == 4 and before == files_identity(list_unlabelled(folder))
    (folder / "Siam_1.png").write_bytes(b"another size")
    assert files_identity(list_unlabelled(folder)) != before
