"""Does a study give the same table when it is run again?  `make test-reports` checks this for the sample study."""

import contextlib
import io
import subprocess
import sys

import pandas as pd

from petseg_utils.experiments.study_records import study_records
from petseg_utils.scores.results import results_table
from petseg_utils.study import ROOT, PetsegError, load_study

# On one machine two runs agree to the last digit.  Another processor rounds differently, and training amplifies that.
TOLERANCE = 0.05
KEYS = ["study", "model", "encoder", "protocol"]
EXACT = ["n_images", "n_breeds", "seeds", "parameters", "trained parameters"]


def differences(now: pd.DataFrame, then: pd.DataFrame, tolerance: float = TOLERANCE) -> list[str]:
    """Return where two results tables disagree, one line each; an empty list if they agree.

    Parameters
    ----------
    now, then : DataFrame
        As made by `results.results_table`, or read from ``results.csv``.
    tolerance : float
        How far a score or the loss may be off, 0 to 1.  Counts must be equal; times are not compared.
    """
    now, then = (table.assign(encoder=table["encoder"].fillna("none")).set_index(KEYS) for table in (now, then))
    lines = [f"{'/'.join(key)}: only in the committed table" for key in then.index.difference(now.index)]
    lines += [f"{'/'.join(key)}: not in the committed table" for key in now.index.difference(then.index)]
    scores = ["test_loss", *(name for name in then.columns if f"{name} low" in then.columns)]
    for key in now.index.intersection(then.index):
        for name, most in [(name, 0) for name in EXACT] + [(name, tolerance) for name in scores]:
            new, old = now.loc[key].get(name), then.loc[key, name]
            if pd.isna(new) != pd.isna(old) or abs(new - old) > most + 5e-5:  # the CSV has four digits
                lines.append(f"{'/'.join(key)}: {name} is {new:.4f}, committed {old:.4f}")
    return lines


def committed_table(study: str) -> pd.DataFrame:
    """Return the ``results.csv`` of a study as of the last commit, whatever a run has written since.

    Without git, as in an archive of the project, return the file that is there.
    """
    name = f"figures/{study}/results.csv"
    with contextlib.suppress(FileNotFoundError):  # git
        run = subprocess.run(["git", "show", f"HEAD:./{name}"], cwd=ROOT, capture_output=True, text=True)
        if not run.returncode:
            return pd.read_csv(io.StringIO(run.stdout))
    if (ROOT / ".git").exists() or not (ROOT / name).is_file():
        raise PetsegError(f"No committed results.csv of study {study!r} was found.")
    return pd.read_csv(ROOT / name)


def main() -> None:
    """Compare the study's present table with the committed one; exit with code 1 if they disagree."""
    study = load_study()
    if not (records := study_records(study)):
        sys.exit(
            f"Study {study.name!r} has no records to compare: run its notebooks first, as `make test-reports` does."
        )
    now, then = results_table(records), committed_table(study.name)
    lines = differences(now, then)
    same = not differences(now, then, 0)
    print("\n".join(lines) or f"The table of study {study.name} is the committed one, " + (
        "to the last digit." if same else f"within {TOLERANCE}."
    ))  # fmt: skip
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
