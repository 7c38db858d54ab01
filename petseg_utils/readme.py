"""The README's numbers: what stands between its markers is made from the committed records, by `make tables`."""

import re

import pandas as pd

from petseg_utils.evaluation import read_records
from petseg_utils.result_words import answer, budget_sentence, clicks_sentence, named, ranked
from petseg_utils.results import (
    PRIMARY,
    PROMPTED,
    SCORE_NAMES,
    markdown,
    published,
    results_table,
    select,
    write_tables,
)
from petseg_utils.study import ROOT

BLOCK = re.compile(r"(<!-- (\w+): made by `make tables` -->\n).*?(<!-- end of \2 -->)", re.DOTALL)


def short_table(records: list[dict]) -> str:
    """The primary protocol's scores as one Markdown table, a row per model and set of test pictures."""
    rows = []
    for subset, about in (("all", ""), ("small breeds", ", small breeds only")):
        table = results_table(select(records, protocol=PRIMARY, subset=subset), subset=subset)
        for _, row in table.iterrows():
            stale = f", stale: of commit {row['stale']}" if row["stale"] else ""
            cells = {"model": row["model"] + (" †" if row["model"] == PROMPTED else "") + stale}
            cells["encoder"] = row["encoder"] if isinstance(row["encoder"], str) else "none"
            cells["test photos"] = f"{row['n_images']} of {row['n_breeds']} breeds{about}"
            cells["seeds"] = row["seeds"]
            for name in SCORE_NAMES.values():
                cells[name] = f"{row[name]:.3f} [{row[f'{name} low']:.3f}, {row[f'{name} high']:.3f}]"
            rows.append(cells)
    return markdown(pd.DataFrame(rows))


def stands_on(records: list[dict], breeds: pd.Series) -> str:
    """How many photos and breeds the numbers stand on, in a sentence or two."""
    first = select(records, protocol=PRIMARY)[0]
    share = breeds.value_counts(normalize=True)
    return (
        f"Only a part of the data set was at hand: {first['trained_on']['n_images']} photos of "
        f"{first['trained_on']['n_breeds']} breeds to train, {first['n_images']} of {first['n_breeds']} to test. "
        f"{share.iloc[:3].sum():.0%} of all show three breeds ({', '.join(share.index[:3])}), so the others stand on "
        "their own too.\n"
    )


def sample_line(records: list[dict]) -> str:
    """What the embedded pictures' study gives, in a sentence."""
    table = results_table(select(records, protocol=PRIMARY))
    table = pd.concat([ranked(table), table[table["model"] == PROMPTED]])  # the one with help last, unranked
    scores = ", ".join(
        f"{named(row['model'], row['encoder'])}{' †' if row['model'] == PROMPTED else ''} {row['mIoU']:.3f}"
        for _, row in table.iterrows()
    )
    return f"mIoU on its {table['n_images'].iloc[0]} drawn test pictures: {scores}.\n"


def blocks() -> dict[str, str]:
    """What belongs between the README's markers, by the markers' names."""
    photos, sample = published("oxford-cpu"), published("sample")
    folder = ROOT / "figures" / "oxford-cpu"
    breeds = pd.read_csv(folder / "pictures.csv")["breed"]
    pairs = pd.read_csv(folder / "pairs.csv") if (folder / "pairs.csv").is_file() else pd.DataFrame()
    said = answer(results_table(photos), photos, pairs, "photos")[:2]
    said.append(budget_sentence(photos, published("oxford-gpu")))
    return {
        "answer": "\n\n".join(said) + "\n",
        "photos": stands_on(photos, breeds),
        "results": short_table(photos),
        "clicks": _clicks(),
        "sample": sample_line(sample),
    }


def _clicks() -> str:
    """What clicks buy the weights that ship, on photos."""
    shipped = published("shipped")
    return (
        f"{clicks_sentence(shipped)} Tested on {select(shipped)[0]['n_images']} photos, with the weights that ship.\n"
    )


def readme_with_results(readme: str) -> str:
    """The README's text with what stands between its markers made anew from the committed records."""
    made = blocks()
    return BLOCK.sub(lambda match: match[1] + made[match[2]] + match[3], readme)


if __name__ == "__main__":
    for records_path in sorted((ROOT / "figures").glob("*/records.jsonl")):
        write_tables(records_path.parent, read_records(records_path))
    path = ROOT / "README.md"
    path.write_text(readme_with_results(path.read_text(encoding="utf-8")), encoding="utf-8")
