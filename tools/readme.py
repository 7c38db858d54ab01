"""The README's numbers: the text between its markers is made from the committed records, by `make tables`."""

import functools
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from petseg_utils.experiments.edges import EDGES
from petseg_utils.experiments.elsewhere import home_and_elsewhere, shipped_records, where_it_fails
from petseg_utils.experiments.front_picture import front_picture
from petseg_utils.experiments.no_pet import NO_PET, PEAKS_COMPARED, peaks_in_words
from petseg_utils.experiments.other_tools import read_other_tools, tools_in_words, tools_table
from petseg_utils.experiments.study_records import committed_records, longer_trained
from petseg_utils.models.cards import read_card
from petseg_utils.models.names import encoder_title, titled
from petseg_utils.report.plan import plan
from petseg_utils.report.sentences import (
    answer,
    budget_sentence,
    clicks_sentence,
    home_sentences,
    ranked,
    summary_sentences,
    training_sentence,
    unseen_sentence,
)
from petseg_utils.report.tables import budgets_table
from petseg_utils.scores.intervals import share_interval, with_interval
from petseg_utils.scores.records import read_records
from petseg_utils.scores.results import (
    PRIMARY,
    PROMPTED,
    SCORE_NAMES,
    markdown,
    results_table,
    select,
    write_tables,
)
from petseg_utils.study import ROOT, load_study
from petseg_utils.training.checkpoints import find_checkpoint
from tools.licences import licence_table

BLOCK = re.compile(r"(<!-- (\w+): made by `make tables` -->\n).*?(<!-- end of \2 -->)", re.DOTALL)


def short_table(records: list[dict]) -> str:
    """Return the primary protocol's scores as a Markdown table: a row per model and set of pictures, the best first."""
    rows = []
    for subset, note in (("all", ""), ("small breeds", ", small breeds only")):
        table = results_table(select(records, protocol=PRIMARY, subset=subset), subset=subset)
        table = table[table["model"] != PROMPTED]  # without clicks, its masks are the decoder's
        table = table.sort_values("mIoU", ascending=False)
        for _, row in table.assign(encoder=table["encoder"].fillna("none")).iterrows():
            stale = f", stale: of commit {row['stale']}" if row["stale"] else ""
            cells = {
                "model": titled(row["model"]) + stale,
                "encoder": encoder_title(row["encoder"]),
                "trained": f"{row['epochs']} epochs, {row['trained on']}",
                "test photos": f"{row['n_images']} of {row['n_breeds']} breeds{note}",
                "seeds": row["seeds"],
            }
            for name in SCORE_NAMES.values():
                cells[name] = with_interval(row[name], row[f"{name} low"], row[f"{name} high"])
            rows.append(cells)
    return markdown(pd.DataFrame(rows))


def stands_on(records: list[dict], pictures: pd.DataFrame) -> str:
    """Say in a paragraph how many photos and breeds the numbers rest on, and which models learned from which."""
    first = select(records, protocol=PRIMARY)[0]
    share, validation = pictures["breed"].value_counts(normalize=True), (pictures["split"] == "validation").sum()
    learned = f"{first['trained_on']['n_images']} photos of {first['trained_on']['n_breeds']} breeds to train"
    return (
        f"Masks were at hand for a part of the data set only: {learned}, {validation} to choose the epoch by, and "
        f"{first['n_images']} of {first['n_breeds']} breeds to test; of the other photos of `trainval`, the pictures "
        f"alone. {share.iloc[:3].sum():.0%} of those with masks show three breeds ({', '.join(share.index[:3])}), so "
        f"the others stand on their own too. {training_sentence(records)}\n"
    )


def studies_table() -> str:
    """Return the settings in which the studies differ most, from their files, as a Markdown table."""
    rows = []
    for name in ("sample", "oxford-cpu", "oxford-gpu", "shipped", "oxford"):
        study = load_study(name)
        row = {"study": name, "pixels": study.image_size, "seeds": len(study.seeds), "encoder": f"`{study.encoder}`"}
        for model in ("unet", "decoder"):
            of = study.settings(model)
            row[f"{titled(model)}: width, epochs, learning rate, averaging"] = (
                f"{of.width}, {of.epochs}, {of.learning_rate:g}, {of.average or 'none'}"
            )
        rows.append(row)
    return markdown(pd.DataFrame(rows))


def sample_line(records: list[dict]) -> str:
    """Return the result of the embedded pictures' study, in a sentence."""
    table = ranked(results_table(select(records, protocol=PRIMARY)))
    scores = ", ".join(f"{titled(row['model'], row['encoder'])} {row['mIoU']:.3f}" for _, row in table.iterrows())
    return f"mIoU on its {table['n_images'].iloc[0]} drawn test pictures: {scores}.\n"


def no_pet_table() -> str:
    """Return how often nothing is proposed where there is no pet, as a Markdown table."""
    table = pd.read_csv(NO_PET).drop(columns="weights")
    for name in ("nothing", "little"):
        counted = zip(table[name], table["n_images"], strict=True)
        table[name] = [with_interval(share, *share_interval(share * n, n), ".1%") for share, n in counted]
    return markdown(table.assign(n_images=table["n_images"].astype(int)))


def edges_sentence() -> str:
    """Say in a sentence what the photo's own edges are worth, on drawn pictures."""
    table = pd.read_csv(EDGES).set_index(["mask", "edge"])
    hard, soft = (table.loc[("the decoder's", edge)] for edge in ("hard", "soft"))
    assert soft["boundary IoU"] > hard["boundary IoU"] and soft["alpha error"] < hard["alpha error"]
    return (
        f"  Measured on {hard['n_images']:.0f} drawn pictures of about 1,000 pixels: boundary IoU "
        f"{hard['boundary IoU']:.2f} hard, {soft['boundary IoU']:.2f} soft; mean square error of the alpha near it "
        f"{hard['alpha error']:.3f} and {soft['alpha error']:.3f}.\n"
    )


@functools.cache
def plan_lines() -> str:
    """Return what the study on CLIP takes, as a code block."""
    return f"```\n{plan(load_study('oxford'))}\n```\n"


def blocks() -> dict[str, str]:
    """Return the texts between the README's markers, by the markers' names."""
    photos, sample, shipped = (committed_records(name) for name in ("oxford-cpu", "sample", "shipped"))
    folder = ROOT / "figures" / "oxford-cpu"
    pairs = pd.read_csv(folder / "pairs.csv")
    pictures = pd.read_csv(folder / "pictures.csv")
    leader, lead, _ = answer(results_table(photos), photos, pairs, "photos")
    elsewhere, thorough = shipped_records(), committed_records("oxford-gpu")
    training = budget_sentence(photos, thorough)
    summary = summary_sentences(photos, thorough, elsewhere, pairs, pictures.loc[pictures["split"] == "test", "breed"])
    unseen = unseen_sentence(elsewhere, pd.read_csv(folder / "elsewhere.csv"))
    tools = read_other_tools()
    peak = read_card(find_checkpoint("decoder", None))["peak"]
    tested = f"Tested on {select(shipped)[0]['n_images']} photos, with the weights that ship."
    return {
        "front": f"{' '.join(summary)}\n",
        "answer": f"{leader}\n\n{lead}\n\n{training}\n",
        "photos": stands_on(photos, pictures),
        "results": short_table([*photos, *longer_trained(thorough, photos)]),
        "clicks": f"{clicks_sentence(shipped)} {tested}\n",
        "budgets": markdown(budgets_table([*photos, *thorough, *shipped])),
        "home": f"{' '.join([*home_sentences(elsewhere), unseen])}\n",
        "studies": studies_table(),
        "elsewhere": markdown(home_and_elsewhere(elsewhere).reset_index()),
        "tools": f"{markdown(tools_table(tools).reset_index())}\n{tools_in_words(tools)}\n",
        "failures": markdown(where_it_fails(elsewhere).reset_index()),
        "no_pet": no_pet_table(),
        "peaks": f"{peaks_in_words(pd.read_csv(PEAKS_COMPARED), peak)}\n",
        "edges": edges_sentence(),
        "sample": sample_line(sample),
        "plan": plan_lines(),
        "licences": licence_table(),
    }


def readme_with_results(readme: str) -> str:
    """Return the README's text with the parts between its markers made anew from the committed records."""
    texts = blocks()
    return BLOCK.sub(lambda match: match[1] + texts[match[2]] + match[3], readme)


def write_picture(path: Path) -> None:
    """Draw the picture at the top of the README."""
    figure = front_picture()
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    write_picture(ROOT / "figures" / "shipped" / "front.png")
    for records_path in sorted((ROOT / "figures").glob("*/records.jsonl")):
        write_tables(records_path.parent, read_records(records_path))
    path = ROOT / "README.md"
    path.write_text(readme_with_results(path.read_text(encoding="utf-8")), encoding="utf-8")
