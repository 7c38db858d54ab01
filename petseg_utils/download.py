"""Fetching the official data and CLIP's weights; the only code of petseg that uses the network."""

import contextlib
import os
import urllib.error
import urllib.request
from pathlib import Path

from petseg_utils.audit import audit
from petseg_utils.datasets import OFFICIAL_COUNTS, DataError
from petseg_utils.encoders import CLIP
from petseg_utils.study import ROOT, PetsegError


def download_oxford(root: Path | None = None) -> Path:
    """Fetch Oxford-IIIT Pet by torchvision, which checks the archives' sums, then count and decode every file.

    Parameters
    ----------
    root : Path, optional
        Folder that will hold ``oxford-iiit-pet/``; the project's ``data/`` by default.

    Returns
    -------
    Path
        The data set's folder.

    Raises
    ------
    DataError
        If the download fails, or the data is not complete afterwards.
    """
    from torchvision.datasets import OxfordIIITPet

    root = root or ROOT / "data"
    folder = root / "oxford-iiit-pet"
    try:
        OxfordIIITPet(root, split="trainval", target_types="segmentation", download=True)
    except (OSError, RuntimeError) as error:  # network errors are OSErrors; a wrong sum is a RuntimeError
        raise DataError(
            f"The download failed: {error}. Try again; if it was cut, delete {folder.name}/ in {root.name}/ first."
        ) from error
    found = audit(folder)
    # torchvision skips its checks where the folders exist already, so count and decode what is really there.
    if not found["official"] or found["errors"]:
        raise DataError(
            f"{folder.name} is incomplete: {found['splits']} instead of {OFFICIAL_COUNTS}, "
            f"{len(found['errors'])} files with errors. Delete the folder and download again."
        )
    return folder


def download_clip() -> str:
    """Fetch the weights of the study's CLIP into the Hugging Face cache, where `encoders.load_encoder` finds them.

    Returns
    -------
    str
        The encoder's spec.

    Raises
    ------
    PetsegError
        If the hub cannot be reached.
    """
    # Read when the hub's client is imported, which is why it stands before the import.
    os.environ["HF_HUB_OFFLINE"] = "0"
    import open_clip
    from huggingface_hub import constants, hf_hub_download

    repository = open_clip.get_pretrained_cfg(*CLIP.removeprefix("clip:").split("/"))["hf_hub"].rpartition("/")[0]
    try:
        # The hub's client tries six times with growing pauses; somebody who is offline should not wait for that.
        with contextlib.suppress(urllib.error.HTTPError):  # an answer, if not a friendly one: there is a hub
            urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=10)
        hf_hub_download(repository, "open_clip_model.safetensors")
    except Exception as error:  # the client wraps what went wrong in kinds of its own, and of its transport's
        raise PetsegError(
            f"The weights of {CLIP} could not be fetched from the Hugging Face hub ({error}). Is this machine online? "
            "Without them take the encoder lite:efficientnet_lite0, or a file: clip:MODEL//path/to/file."
        ) from error
    return CLIP
