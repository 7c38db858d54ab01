"""Put a run's best weights among those that ship: `python -m tools.ship MODEL --study STUDY`."""

import argparse

from petseg_utils.scores.records import read_records
from petseg_utils.study import load_study
from petseg_utils.training.checkpoints import ship


def main(arguments: list[str] | None = None) -> None:
    """Copy the weights, with the scores of the run's evaluation on the test split in their card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--study", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slot", help="the name it ships under, if not its own")
    chosen = parser.parse_args(arguments)
    study = load_study(chosen.study)
    records = [
        record
        for record in read_records(study.runs_dir / "records.jsonl")
        if (record["model"], record["seed"], record["split"]) == (chosen.model, chosen.seed, "test")
    ]
    if not records:
        parser.error(f"no test scores of {chosen.model}, seed {chosen.seed}: run petseg evaluate first")
    print(ship(chosen.model, study, chosen.seed, records, chosen.slot).name)


if __name__ == "__main__":
    main()
