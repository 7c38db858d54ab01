"""Downloading the official data set, checked by its archives' checksums and by reading every file."""

from pathlib import Path

from petseg_utils.data.audit import audit
from petseg_utils.data.datasets import OFFICIAL_COUNTS, DataError
from petseg_utils.study.paths import OUTPUTS


def download_oxford(root: Path | None = None) -> Path:
    """Download Oxford-IIIT Pet by torchvision, which checks the archives' checksums; then count and decode every file.

    Parameters
    ----------
    root : Path, optional
        Folder that will hold ``oxford-iiit-pet/``; the project's ``data/`` by default.

    Raises
    ------
    DataError
        If the download fails, or the data is not complete afterwards.
    """
    from torchvision.datasets import OxfordIIITPet

    root = root or OUTPUTS / "data"
    folder = root / "oxford-iiit-pet"
    try:
        OxfordIIITPet(root, split="trainval", target_types="segmentation", download=True)
    except (OSError, RuntimeError) as error:  # network errors are OSErrors; a wrong checksum is a RuntimeError
        raise DataError(
            f"The download failed: {error}. Try again; if it was interrupted, first delete "
            f"{folder.name}/ in {root.name}/."
        ) from error
    report = audit(folder)
    # torchvision skips its checks if the folders exist already, so count and decode what is really there.
    if not report["official"] or report["errors"]:
        raise DataError(
            f"{folder.name} is incomplete: {report['splits']} instead of {OFFICIAL_COUNTS}, "
            f"{len(report['errors'])} files with errors. Delete the folder and download again."
        )
    return folder
