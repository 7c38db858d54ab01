"""The provenance of results: versions, commit and device."""

import contextlib
import importlib.metadata
import platform
import subprocess
from typing import TYPE_CHECKING

from petseg_utils.study import ROOT

if TYPE_CHECKING:
    from petseg_utils.study import Study

RECORDED_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "open-clip-torch",
    "numpy",
    "albumentations",
    "accelerate",
    "pillow",
    "opencv-python-headless",
)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on, as far as they are installed."""
    installed = {"python": platform.python_version()}
    for name in RECORDED_PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.version(name)
    return installed


def git_commit() -> str:
    """Return the project's short commit hash, with ``+`` if files differ from it; ``unknown`` outside a checkout."""
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--abbrev=10", "--dirty=+", "--exclude=*"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return run.stdout.strip()


def best_device() -> str:
    """Return the device on which networks run best on this machine: ``cuda``, ``mps`` or ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def describe(study: "Study") -> str:
    """Return one line for the top of notebooks and logs: study, device, seeds and versions."""
    installed = versions()
    return (
        f"petseg study {study.name!r} | device {best_device()} | seeds {list(study.seeds)} | "
        f"python {installed['python']} | torch {installed['torch']} | torchvision {installed['torchvision']}"
    )
