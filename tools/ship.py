"""Put a run's best weights among those that ship: `python -m tools.ship MODEL --study STUDY`."""

import argparse
from pathlib import Path

from petseg_utils.models.cards import SHIPPED, write_sums
from petseg_utils.scores.records import read_records
from petseg_utils.study import Study, load_study
from petseg_utils.training.checkpoints import load, run_folder, save_checkpoint
from petseg_utils.training.export import export
from petseg_utils.training.recipes import recipe_of

NOTES = {
    "source": "Oxford-IIIT Pet, by Parkhi, Vedaldi, Zisserman and Jawahar, CVPR 2012 (CC BY-SA 4.0); cats outdoors, a "
    "feral-cat segmentation set, Cornell (public domain); cats and dogs of COCO (annotations CC BY 4.0, the photos "
    "belong to their owners)",
    "licence": "CC BY-SA 4.0, as the Oxford data",
    "limits": "Cats and dogs in photos as people take them. Few breeds had true masks; of the others a model proposed "
    "masks. Two animals of one photo are not told apart. Not for other animals.",
}


def main(arguments: list[str] | None = None) -> None:
    """Copy the weights, adding the scores of the run's evaluation on the test split to their card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--study", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--peak", type=float, help="from which probability the model counts as sure; see selection.settled"
    )
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
    path = ship(chosen.model, study, chosen.seed, records, chosen.slot, chosen.peak)
    exported = export(path, SHIPPED) if recipe_of(chosen.model).on_frozen_encoder else []
    write_sums(SHIPPED)
    print(*(file.name for file in [path, *exported]))


def ship(
    model: str, study: Study, seed: int, records: list[dict], slot: str | None = None, peak: float | None = None
) -> Path:
    """Copy a run's best weights, as float16, to the weights that ship with the package.

    Parameters
    ----------
    model, study, seed
        The run to ship.
    records : list of dict
        Records of its evaluation on the test split; the card repeats their scores.
    slot : str, optional
        The name that it ships under; by default `model`.
    peak : float, optional
        Noted in the card; see `selection.settled`.

    Returns
    -------
    Path
        The written ``.safetensors`` file; its card is beside it.
    """
    network, card = load(run_folder(model, study, seed) / "best.safetensors")
    for parameter in network.parameters():  # running variances stay unchanged: they may exceed float16's range
        parameter.data = parameter.data.half()
    test = {
        f"{record['subset']}, {record['protocol']}": {"n_images": record["n_images"]}
        | {key: record["scores"][key] for key in ("miou", "dice", "accuracy")}
        for record in records
    }
    shipped_as = {"model": slot or model, "trained_as": model, "stored_as": "float16", "test": test}
    shipped_as |= {"clicks": records[0]["clicks"]} if "clicks" in records[0] else {}
    shipped_as |= {"peak": peak} if peak else {}
    path = SHIPPED / f"{slot or model}.safetensors"
    save_checkpoint(path, network, card | shipped_as | NOTES)
    write_sums(SHIPPED)
    return path


if __name__ == "__main__":
    main()
