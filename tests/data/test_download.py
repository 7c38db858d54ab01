"""The official data set: what is fetched is counted and read before it is called complete."""

import pytest
import torchvision.datasets

from petseg_utils.data import datasets
from petseg_utils.data.datasets import DataError
from petseg_utils.data.download import download_oxford
from tests.conftest import first_picture, write_data


@pytest.fixture
def fetched(monkeypatch):
    """Ways for torchvision to answer: 12 + 6 pictures count as the whole data set, and nothing is fetched."""
    for split, count in (("trainval", 12), ("test", 6)):
        monkeypatch.setitem(datasets.OFFICIAL_COUNTS, split, count)

    def answer(fetch):
        monkeypatch.setattr(torchvision.datasets, "OxfordIIITPet", lambda root, **options: fetch(root, options))

    return answer


def test_complete_data_are_found_where_they_were_put(fetched, tmp_path):
    asked = []
    fetched(lambda root, options: asked.append(options) or write_data(root / "oxford-iiit-pet"))
    assert download_oxford(tmp_path) == tmp_path / "oxford-iiit-pet"
    assert asked[0]["download"] is True


def test_data_that_lack_pictures_or_hold_bad_ones_are_told(fetched, tmp_path):
    fetched(lambda root, options: write_data(root / "oxford-iiit-pet", n_test=5))
    with pytest.raises(DataError, match=r"'test': 5} instead of {.*'test': 6}, 0 files with errors. Delete the folder"):
        download_oxford(tmp_path / "few")
    fetched(lambda root, options: first_picture(write_data(root / "oxford-iiit-pet"))[0].write_bytes(b"half"))
    with pytest.raises(DataError, match=r"oxford-iiit-pet is incomplete: .*, 1 files with errors"):
        download_oxford(tmp_path / "bad")


@pytest.mark.parametrize("error", [OSError("no route to host"), RuntimeError("File not found or corrupted.")])
def test_a_download_that_fails_says_what_to_do(fetched, tmp_path, error):
    def fail(root, options):
        raise error

    fetched(fail)
    with pytest.raises(
        DataError, match=rf"The download failed: {error}.* Try again; if it was interrupted, first delete"
    ):
        download_oxford(tmp_path)
