"""Tables of scores, made from records; no number in them is typed by hand."""

from pathlib import Path

import numpy as np
import pandas as pd

from petseg_utils.models.names import count_of, titled
from petseg_utils.scores.intervals import share_interval, with_interval
from petseg_utils.scores.metrics import PROTOCOLS

PRIMARY = PROTOCOLS[0]
PROMPTED = "point"  # the model that takes clicks, and so is not ranked with the others
CLICKED = f"{PROMPTED}, one click"
SCORE_NAMES = {"miou": "mIoU", "dice": "mean Dice", "accuracy": "accuracy", "boundary_iou": "boundary IoU"}

CLICK_NAMES = {
    "proposed": "IoU before any click",
    "iou@1": "IoU after one click at random on the pet",
    "iou@3": "IoU after two corrections more",
    "iou@5": "IoU after four corrections more",
    "noc@85": "clicks to an IoU of 0.85 (NoC@85)",
    "noc@90": "clicks to an IoU of 0.90 (NoC@90)",
} | {
    f"{name}@1.{key}": f"a click on {what}: {says}"
    for name, what in (("missed", "what is missed"), ("excess", "what is too much"))
    for key, says in {
        "n_images": "pictures",
        "before": "IoU before",
        "after": "IoU after",
        "worse": "share of pictures that got worse",
    }.items()
}
CLICK_NAMES |= {f"same_class_click.{key}": f"same-class click: {SCORE_NAMES[key]}" for key in ("miou", "dice")}


def select(records: list[dict], *, split: str = "test", subset: str = "all", protocol: str | None = None) -> list[dict]:
    """Select the records of one split and subset and, if a protocol is given, of that protocol."""
    return [
        record
        for record in records
        if record["split"] == split and record["subset"] == subset and protocol in (None, record["protocol"])
    ]


def flat_scores(record: dict) -> dict[str, tuple[float, float, float]]:
    """Return a record's scores as name to (value, low, high); IoUs of classes are named ``IoU cat`` and so on."""
    scores = record["scores"]
    values = {name: (scores[key], scores["ci95"][key]) for key, name in SCORE_NAMES.items() if key in scores}
    values |= {f"IoU {name}": (value, scores["ci95"][f"iou.{name}"]) for name, value in scores["iou"].items()}
    return {name: (value, *interval) for name, (value, interval) in values.items()}


def flat_clicks(record: dict) -> dict[str, tuple[float, float, float]]:
    """Return a record's click scores as name to (value, low, high); none for a model that takes no clicks.

    Scores for which there are no pictures are NaN.  Shares get exact intervals in place of the record's own.
    """
    clicks = dict(record.get("clicks", {}))
    intervals = clicks.pop("ci95", {})
    values: dict[str, float] = {}
    for name, value in clicks.items():
        values |= {f"{name}.{key}": part for key, part in value.items()} if isinstance(value, dict) else {name: value}
    triples = {
        name: [np.nan if part is None else float(part) for part in (value, *intervals[name])]
        for name, value in values.items()
    }
    for name in [name for name in triples if name.endswith(".worse")]:
        share, n_images = triples[name][0], triples[name.replace("worse", "n_images")][0]
        triples[name] = [share, *share_interval(share * n_images, n_images)]
    return {name: (value, low, high) for name, (value, low, high) in triples.items()}


def clicks_table(records: list[dict]) -> pd.DataFrame:
    """Format click scores: a row per score, a column per study and encoder; means over seeds, with 95 % bounds."""
    columns: dict[str, list] = {}
    for record in select(records, protocol=PRIMARY):
        if "clicks" in record:
            run = f"{titled(record['model'], record['encoder'])}, study {record['study']}"
            columns.setdefault(run, []).append(flat_clicks(record))
    table: dict[str, dict[str, str]] = {}
    for name, seeds in columns.items():
        means = {score: np.mean([by_score[score] for by_score in seeds], axis=0) for score in seeds[0]}
        column = f"{name}, {len(seeds)} seed{'s' * (len(seeds) > 1)}"
        table[column] = {name: _click_cell(score, *means[score]) for score, name in CLICK_NAMES.items()}
    return pd.DataFrame(table).rename_axis("score")


def _click_cell(score: str, value: float, low: float, high: float) -> str:
    """Format a click score: pictures as a number, shares in per cent, clicks with two decimals, IoUs with three."""
    if score.endswith("n_images"):
        return "none" if np.isnan(value) else f"{value:.0f}"
    return with_interval(value, low, high, ".0%" if score.endswith("worse") else ".2f" if "noc" in score else ".3f")


def results_table(records: list[dict], *, subset: str = "all") -> pd.DataFrame:
    """Make a table with a row per model, study, set of test pictures and protocol, summarised over seeds.

    Returns
    -------
    DataFrame
        ``study``, ``model``, ``encoder``, ``protocol``, ``data`` (fingerprint), ``n_images``, ``n_breeds``, ``seeds``
        (their number), ``parameters`` and ``trained parameters``, ``epochs`` (the most allowed) and ``trained on``
        (``CPU`` or ``GPU``), ``test_loss``, ``training_seconds`` and ``ms_per_picture`` (means over seeds), ``stale``
        (commits of records that no longer fit the study, else empty), and for each score: its mean over seeds,
        ``… low`` and ``… high`` (means of the seeds' 95 % bootstrap bounds: how far other pictures would move it),
        ``… min`` and ``… max`` over seeds (how far another run would).
    """
    rows = []
    keys = ("study", "model", "encoder", "protocol", "data")
    chosen = select(records, subset=subset)
    frame = pd.DataFrame([{key: record[key] for key in keys} | {"old": "stale" in record} for record in chosen])
    if frame.empty:
        return frame
    for values, group in frame.groupby([*keys, "old"], sort=False, dropna=False):
        members = [chosen[index] for index in group.index]
        first = members[0]
        row = dict(zip(keys, (None if pd.isna(value) else value for value in values[:-1]), strict=True))
        row |= {"n_images": first["n_images"], "n_breeds": first["n_breeds"], "seeds": len(members)}
        row |= {"parameters": first["parameters"]["total"], "trained parameters": first["parameters"]["trained"]}
        row |= {"epochs": first["trained_on"]["settings"]["epochs"], "trained on": processor(first)}
        for key in ("test_loss", "training_seconds"):
            row[key] = pd.Series([member[key] for member in members], dtype=float).mean()
        row["ms_per_picture"] = 1000 * pd.Series([member["seconds_per_picture"] for member in members]).mean()
        row["stale"] = ", ".join(sorted({member["commit"] for member in members if "stale" in member}))
        flat = [flat_scores(member) for member in members]
        for name in flat[0]:
            by_seed = pd.DataFrame([scores[name] for scores in flat], columns=["value", "low", "high"]).astype(float)
            row |= {name: by_seed["value"].mean(), f"{name} low": by_seed["low"].mean()}
            row |= {f"{name} high": by_seed["high"].mean()}
            row |= {f"{name} min": by_seed["value"].min(), f"{name} max": by_seed["value"].max()}
        rows.append(row)
    return pd.DataFrame(rows)


def processor(record: dict) -> str:
    """Return ``CPU`` or ``GPU``: the processor that trained a record's model.

    Older records do not say which; there it is the one that scored the model.
    """
    return "GPU" if (record["trained_on"].get("device") or record["device"]).startswith("cuda") else "CPU"


def protocol_table(table: pd.DataFrame) -> pd.DataFrame:
    """Format the scores of one model of one study: a row per score, a column per protocol.

    A cell is ``0.812 [0.790, 0.833]``, the value and its 95 % interval over pictures; with several seeds, the means of
    these, followed by ``(0.801 to 0.820)``, the range over seeds.

    Parameters
    ----------
    table : DataFrame
        Rows of a `results_table` that differ only in protocol.
    """
    columns = {}
    for _, row in table.iterrows():
        cells = {}
        for name in [column for column in table.columns if f"{column} low" in table.columns and pd.notna(row[column])]:
            cells[name] = with_interval(row[name], row[f"{name} low"], row[f"{name} high"])
            if row["seeds"] > 1:
                cells[name] += f" ({row[f'{name} min']:.3f} to {row[f'{name} max']:.3f})"
        if row["protocol"] in columns:
            raise ValueError(
                f"two rows of protocol {row['protocol']}: this table is of one model on one set of pictures"
            )
        columns[row["protocol"]] = cells
    return pd.DataFrame(columns).fillna("").rename_axis("score")


def heading(table: pd.DataFrame) -> str:
    """Say what a `protocol_table` is about: model, study, pictures, breeds and seeds."""
    row = table.iloc[0]
    seeds = "1 seed" if row["seeds"] == 1 else f"{row['seeds']} seeds"
    pictures = f"{row['n_images']} test pictures of {row['n_breeds']} breeds"
    stale = f"; STALE, made at commit {row['stale']} with other settings or pictures" if row["stale"] else ""
    return f"{titled(row['model'], row['encoder'])}, study {row['study']}: {pictures}, {seeds}{stale}"


def cost_line(table: pd.DataFrame) -> str:
    """Say what the model of a `protocol_table` costs, in parameters and training time, and give its test loss.

    The time per picture is left out, because it is comparable only in `comparisons.timing_table`: records of models on
    a frozen encoder may come from cached features.
    """
    row = table.iloc[0]
    return (
        f"{count_of(row['parameters'])} weights, {count_of(row['trained parameters'])} of them trained, in "
        f"{time_text(row['training_seconds'])}; test loss {row['test_loss']:.3f}."
    )


def time_text(seconds: float) -> str:
    """Format a time in a convenient unit: ``83 s``, ``12 min``, ``2.1 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def report_tables(records: list[dict]) -> str:
    """Format every model's scores as Markdown: on all test pictures, and on the small breeds if there are some."""
    parts = []
    for subset in ("all", "small breeds"):
        table = results_table(records, subset=subset)
        if table.empty:
            continue
        note = "" if subset == "all" else " (only breeds with few test pictures)"
        for _, rows in table.groupby(["study", "model", "encoder", "data", "stale"], sort=False, dropna=False):
            scores = markdown(protocol_table(rows).reset_index())
            parts.append(f"**{heading(rows)}**{note}\n\n{cost_line(rows)}\n\n{scores}")
    return "\n".join(parts)


def markdown(table: pd.DataFrame) -> str:
    """Format a table as GitHub Markdown."""
    lines = [list(map(str, table.columns)), ["---"] * len(table.columns)]
    lines += [["" if pd.isna(value) else str(value) for value in row] for row in table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def score_lines(records: list[dict]) -> str:
    """Format the scores of one evaluation as text for the terminal."""
    lines = []
    for record in records:
        lines.append(
            f"\n{record['protocol']}, {record['subset']}: {record['n_images']} pictures, {record['n_breeds']} breeds"
        )
        for name, score in flat_scores(record).items():
            lines.append(f"  {name:16} {with_interval(*score, '.4f')}")
    for record in select(records, split=records[0]["split"], protocol=PRIMARY):
        for name, score in flat_clicks(record).items():
            lines.append(f"  {name:24} {with_interval(*score, '.4f')}")
    return "\n".join(lines)


def write_tables(folder: Path, records: list[dict]) -> None:
    """Write some records to a folder as the tables ``results.csv`` and ``results.md``."""
    results_table(records).to_csv(folder / "results.csv", index=False, float_format="%.4f")
    (folder / "results.md").write_text(report_tables(records), encoding="utf-8")
