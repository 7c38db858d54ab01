"""Photos from elsewhere: how a study's models and the weights that ship do on photos from outside its data set.

Usage: python -m petseg_utils.experiments.elsewhere "Oxford test=FOLDER" "cats outdoors=FOLDER"  (the weights that ship)
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import nn

from petseg_utils.data.datasets import list_pictures
from petseg_utils.data.labels import BORDER, SPECIES
from petseg_utils.data.pictures import PictureSet, decode, load_pictures
from petseg_utils.experiments.data_exploration import border_widths, foreground_share
from petseg_utils.experiments.error_analysis import pet_against_rest
from petseg_utils.experiments.failures import mistakes_of
from petseg_utils.experiments.plotting import GREY, new_figure
from petseg_utils.models.click_head import PointSegmenter
from petseg_utils.models.names import titled
from petseg_utils.models.prompts import distance_to
from petseg_utils.scores.clicks import add_clicks, click_values
from petseg_utils.scores.intervals import (
    percentile_interval,
    resampled_sums,
    share_interval,
    unpaired_difference,
    with_interval,
)
from petseg_utils.scores.metrics import picture_confusions, protocol_matrix
from petseg_utils.scores.predictions import predict
from petseg_utils.scores.records import make_records, read_records, write_records
from petseg_utils.scores.results import CLICK_NAMES, PRIMARY
from petseg_utils.study import ROOT, Study, load_study
from petseg_utils.study.paths import safe_cell
from petseg_utils.training.checkpoints import find_checkpoint, load
from petseg_utils.training.process import set_up_process
from petseg_utils.training.recipes import recipe_of

ELSEWHERE = ROOT / "figures" / "shipped" / "elsewhere.jsonl"
TESTED = ELSEWHERE.with_name("elsewhere_pictures.csv")
SHIPPED_MODELS = ("decoder", "point")
SOURCE_COLOURS = ("#1A1A1A", "#0072B2", "#9A5B00")  # none of them the colour of a model
SIZES = (0.04, 0.15)  # shares of the photo that separate small, middling and large pets


def elsewhere_pictures(study: Study) -> PictureSet | None:
    """Return the test split of the study's folder from elsewhere (layouts: see `datasets`); None without a folder."""
    if study.elsewhere_dir is None:
        return None
    listed = list_pictures(study.elsewhere_dir, "test")
    return decode(listed, study.image_size, study.cache_dir, scale=study.picture_scale)


def compare_sets(
    study: Study, networks: dict[str, nn.Module], sets: dict[str, PictureSet], n_resamples: int
) -> pd.DataFrame:
    """Score models on several picture sets.

    A set may hold one species only; mIoU over three classes would then depend on the few pixels assigned to the absent
    one.  So finding the pet and naming its species are scored separately.

    Returns
    -------
    DataFrame
        ``study``, ``model``, ``pictures`` (the set's name), ``n_images``, ``species`` (those in it), ``score`` (``pet
        IoU``: pet against rest; ``right name``: share of the pixels found on a pet that have its species; border and
        padding left out), ``value``, ``low`` and ``high``: 95 % interval over pictures.
    """
    rows = []
    for title, pictures in sets.items():
        species = " and ".join(f"{SPECIES[number]}s" for number in sorted(pictures.table["species"].unique()))
        for name, network in networks.items():
            counts = picture_confusions(pictures.labels, predict(network, pictures).classes)
            matrices = protocol_matrix(counts, PRIMARY)
            whole, drawn = outline_and_name(matrices.sum(0)), outline_and_name(resampled_sums(matrices, n_resamples))
            for score, value in whole.items():
                low, high = percentile_interval(drawn[score])
                row = {"study": study.name, "model": name, "pictures": title, "n_images": len(pictures)}
                rows.append(row | {"species": species, "score": score, "value": value, "low": low, "high": high})
    return pd.DataFrame(rows)


def outline_and_name(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """Return ``pet IoU`` and ``right name`` of confusion matrices ``(..., 3, 3)``, see `compare_sets`."""
    pet, named = matrix[..., 1:, 1:].sum((-2, -1)), matrix[..., 1, 1] + matrix[..., 2, 2]
    with np.errstate(invalid="ignore"):
        return {"pet IoU": pet_against_rest(matrix), "right name": named / pet}


def by_set(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table of `compare_sets` in a form for reading: a row per model and score, a column per picture set."""
    cells = table.apply(lambda row: with_interval(row["value"], row["low"], row["high"]), axis=1)
    titles = table.apply(lambda row: f"{row['pictures']} ({row['n_images']}, {row['species']})", axis=1)
    table = table.assign(model=table["model"].map(titled))
    flat = table.assign(cell=cells, title=titles)
    flat = flat.set_index(["model", "score", "title"])["cell"].unstack("title")
    return flat.reindex(pd.MultiIndex.from_frame(table[["model", "score"]].drop_duplicates()))[titles.unique()]


def set_sentences(table: pd.DataFrame) -> str:
    """Say what each model loses from ``its cats`` to ``elsewhere`` (of `compare_sets`), with intervals; Markdown."""
    scored = table.set_index(["pictures", "model", "score"])[["value", "low", "high"]]
    lines = []
    for name in table["model"].unique():
        changes = {
            score: unpaired_difference(*(tuple(scored.loc[where, name, score]) for where in ("elsewhere", "its cats")))
            for score in table["score"].unique()
        }
        told = "; ".join(f"{score} {with_interval(*change, '+.3f')}" for score, change in changes.items())
        lines.append(f"* {titled(name)}: {told}")
    return "From its cats to elsewhere:\n\n" + "\n".join(lines)


def with_border(pictures: PictureSet, width: float) -> PictureSet:
    """Give pictures whose masks have no border one that is `width` pixels wide: half inside the outline, half outside.

    If one data set marks the outline as uncertain and leaves it out of the scores, and another does not, their scores
    cannot be compared: most mistakes lie on outlines.
    """
    labels = np.array(pictures.labels)
    for label in labels:
        pet, ground = np.isin(label, list(SPECIES)), label == 0
        if pet.any() and ground.any():
            beside = np.where(pet, distance_to(ground), distance_to(pet)) - 0.5 <= width / 2
            label[beside & (pet | ground)] = BORDER
    return replace(pictures, labels=labels)


def score_shipped(sources: dict[str, Path], out: Path) -> list[dict]:
    """Score the weights that ship on the test splits of several folders; each record names its ``source``.

    The first source is home.  If home marks a border and another source does not, the other one is scored twice: with
    its masks as they are, and with a border as wide as home's (`with_border`).  Each record gives the border's width in
    pixels (the median of `data_exploration.border_widths`) as ``border_width``, and its share of pet and border
    together as ``border_share``.

    Parameters
    ----------
    sources : dict of str to Path
        Name of each source of photos to its folder, in one of the layouts of `datasets`.
    """
    records: list[dict] = []
    for source, folder in sources.items():
        for name in SHIPPED_MODELS:
            network, card = load(find_checkpoint(name, None))
            study = load_study(card["study"], data=folder)
            pictures = load_pictures(study, "test")
            predicted = predict(network, pictures, progress=True)
            widths = border_widths(pictures)
            marked = float(np.nanmedian(widths)) if np.isfinite(widths).any() else 0.0
            at_home = records[0]["border_width"] if records else marked
            labelled = {marked: pictures} | ({} if marked else {at_home: with_border(pictures, at_home)})
            for width, each in labelled.items():
                scored = make_records(study, card, "test", each, predicted, network)
                if recipe_of(name).takes_prompts:
                    values = click_values(cast(PointSegmenter, network), each, progress=True)
                    add_clicks(scored, values, each, study.bootstrap_resamples)
                counts = picture_confusions(each.labels, predicted.classes)
                mistakes = mistakes_of(each, counts).value_counts().to_dict()
                border, pet = (each.labels == BORDER).sum(), np.isin(each.labels, list(SPECIES)).sum()
                more = {"border_width": width, "border_share": float(border / (border + pet))}
                more |= {"by_size": by_size(pictures, counts), "mistakes": mistakes}
                records += [{"source": source} | record | more for record in scored if record["subset"] == "all"]
    write_records(out, records)
    return records


def list_tested(sources: dict[str, Path]) -> pd.DataFrame:
    """List the test photos of several folders, so that others can repeat `score_shipped` on the same ones.

    Returns
    -------
    DataFrame
        ``source``, ``name``, and the hashes of the photo's and the mask's pixels, ``content`` and ``mask``.
    """
    study = load_study(load(find_checkpoint(SHIPPED_MODELS[0], None))[1]["study"])
    tables = {
        source: load_pictures(load_study(study.name, data=folder), "test").table for source, folder in sources.items()
    }
    columns = ["name", "content", "mask"]
    tested = pd.concat([table[columns].assign(source=source) for source, table in tables.items()])
    return tested.assign(name=tested["name"].map(safe_cell))[["source", *columns]]


def comparable(records: list[dict]) -> list[dict]:
    """Return those of `score_shipped`'s records that leave out the outline, or count it, as the first source's do."""
    return [record for record in records if (record["border_width"] > 0) == (records[0]["border_width"] > 0)]


def by_size(pictures: PictureSet, counts: np.ndarray) -> dict[str, dict]:
    """Return the pet's IoU, border ignored, by the pet's share of the photo: ``iou`` and ``n_images``."""
    groups = np.digitize(foreground_share(pictures), SIZES)
    matrices = protocol_matrix(counts, PRIMARY)
    names = [f"under {SIZES[0]:.0%}", f"{SIZES[0]:.0%} to {SIZES[1]:.0%}", f"over {SIZES[1]:.0%}"]
    return {
        name: {
            "iou": float(pet_against_rest(matrices[groups == number].sum(0))),
            "n_images": int(sum(groups == number)),
        }
        for number, name in enumerate(names)
    }


def shipped_records() -> list[dict]:
    """Return the committed records of `score_shipped`."""
    return read_records(ELSEWHERE)


def where_it_fails(records: list[dict]) -> pd.DataFrame:
    """Return sizes of pets and kinds of the decoder's mistakes from `score_shipped`'s records, a column per source."""
    columns = {}
    for record in comparable(records):
        if (record["model"], record["protocol"]) == ("decoder", PRIMARY):
            sizes = {
                f"IoU of pets that take {name} of the photo": f"{group['iou']:.3f} (n = {group['n_images']})"
                for name, group in record["by_size"].items()
                if group["n_images"]
            }
            columns[record["source"]] = sizes | {f"photos: {kind}": str(n) for kind, n in record["mistakes"].items()}
    return pd.DataFrame(columns).fillna("none").rename_axis("")


def clicked_records(records: list[dict]) -> list[dict]:
    """Return `score_shipped`'s comparable records with the click model's scores, one per source of photos."""
    return [record for record in comparable(records) if "clicks" in record and record["protocol"] == PRIMARY]


def whole_records(records: list[dict]) -> list[dict]:
    """Return the click model's records of sources whose masks mark no border, as they are: every pixel counts."""
    clicked = [record for record in records if "clicks" in record and record["protocol"] == PRIMARY]
    return [record for record in clicked if not record["border_width"]]


def home_and_elsewhere_chart(records: list[dict], *, narrow: bool = False) -> Figure:
    """Draw the pet's IoU by number of clicks, one line per source of photos, with 95 % intervals over photos.

    All scores leave out the border; dashed lines show the scores with every pixel of the outline counted.
    """
    figure, axis = new_figure(width=4.2 if narrow else 8.6, height=3.6 if narrow else 3.4)
    names = ("proposed", "iou@1", "iou@3", "iou@5")
    whole, shown = {record["source"]: record["clicks"] for record in whole_records(records)}, []
    for record, colour, shift in zip(clicked_records(records), SOURCE_COLOURS, (-0.05, 0.0, 0.05), strict=True):
        clicks, bounds = record["clicks"], record["clicks"]["ci95"]
        values = [clicks[name] for name in names]
        spans = np.abs(np.array([bounds[name] for name in names]).T - values)
        at = np.array([0, 1, 3, 5]) + shift
        title = f"{record['source']} ({record['n_images']} photos)"
        look = {"color": colour, "capsize": 3, "markersize": 5, "linewidth": 1.5}
        shown.append(axis.errorbar(at, values, yerr=spans, fmt="o-", label=title, **look))
        if record["source"] in whole:
            axis.plot(at, [whole[record["source"]][name] for name in names], "--", color=colour, linewidth=1.2)
    if whole:
        shown += axis.plot([], [], "--", color=GREY, label="dashed: every pixel counted")
    figure.legend(handles=shown, loc="outside lower center" if narrow else "outside right center")
    axis.set(
        xlabel="clicks: one at random, then corrections",
        ylabel="IoU of the pet",
        xticks=[0, 1, 3, 5],
        ylim=(0.7, 1.0),
    )
    return figure


def home_and_elsewhere(records: list[dict]) -> pd.DataFrame:
    """Return the scores of `score_shipped` in a form for reading: a row per score, a column per source of photos.

    The outline is left out as it is at home (see `comparable`), except in the rows that say that every pixel counts;
    the scores with clicks are those of the click model.
    """
    columns: dict[str, dict[str, str]] = {}
    for record in comparable(records):
        column = columns.setdefault(f"{record['source']} ({record['n_images']})", {})
        scores = record["scores"]
        if (record["model"], record["protocol"]) == ("decoder", PRIMARY):
            column["mIoU of background, cat, dog"] = with_interval(scores["miou"], *scores["ci95"]["miou"])
        if "clicks" in record and record["protocol"] == PRIMARY:
            clicks, bounds = record["clicks"], record["clicks"]["ci95"]
            for name in ("proposed", "iou@1", "iou@3", "iou@5", "noc@85", "noc@90"):
                low, high = bounds[name]
                column[CLICK_NAMES[name]] = with_interval(clicks[name], low, high, ".2f" if "noc" in name else ".3f")
            for name in ("missed@1", "excess@1"):
                natural = clicks[name]
                most = share_interval(natural["worse"] * (n := natural["n_images"]), n)[1] if natural["n_images"] else 0
                column[CLICK_NAMES[f"{name}.before"].replace("before", "before and after")] = (
                    f"{natural['before']:.3f}, {natural['after']:.3f}; {natural['worse']:.0%} of "
                    f"{natural['n_images']:.0f} got worse (at most {most:.0%})"
                    if natural["n_images"]
                    else "no such picture"
                )
    for record in whole_records(records):
        column, clicks = columns[f"{record['source']} ({record['n_images']})"], record["clicks"]
        for name in ("proposed", "iou@3"):
            column[f"{CLICK_NAMES[name]}, every pixel counted"] = with_interval(clicks[name], *clicks["ci95"][name])
    return pd.DataFrame(columns).fillna("not known: the border is marked").rename_axis("score")


def away_from_home(records: list[dict]) -> pd.DataFrame:
    """Return scores elsewhere minus those at home, the first source: a row per score, a column per source.

    The outline is left out everywhere.  The intervals are those of `intervals.unpaired_difference`.
    """
    scored = {}
    for record in clicked_records(records):
        clicks = record["clicks"]
        names = ("proposed", "iou@1", "iou@3", "iou@5")
        scored[record["source"]] = {CLICK_NAMES[name]: (clicks[name], *clicks["ci95"][name]) for name in names}
    home, *others = scored
    return pd.DataFrame(
        {
            f"{source} less {home}": {
                name: with_interval(*unpaired_difference(values, scored[home][name]), "+.3f")
                for name, values in scored[source].items()
            }
            for source in others
        }
    ).rename_axis("score")


if __name__ == "__main__":
    named = dict(argument.split("=", 1) for argument in sys.argv[1:])
    if not named:
        sys.exit(
            'Name sources: python -m petseg_utils.experiments.elsewhere "Oxford test=FOLDER" "cats outdoors=FOLDER"'
        )
    set_up_process()
    folders = {source: Path(folder) for source, folder in named.items()}
    list_tested(folders).to_csv(TESTED, index=False)
    records = score_shipped(folders, ELSEWHERE)
    print(home_and_elsewhere(records).to_string(), where_it_fails(records).to_string(), sep="\n\n")
