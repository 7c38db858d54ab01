"""From the sweep's records: curves with intervals, what each model loses and keeps, and verdicts on the claim."""

import numpy as np
import pandas as pd

from petseg_utils.experiments.robustness.corruptions import LEVELS, ORIGINAL, TITLES
from petseg_utils.experiments.robustness.sweep import CLEAN, HELPED
from petseg_utils.models.names import titled
from petseg_utils.scores.intervals import percentile_interval, resampled_sums
from petseg_utils.scores.metrics import protocol_matrix, scores
from petseg_utils.scores.records import write_records
from petseg_utils.scores.results import CLICKED, PRIMARY, PROMPTED
from petseg_utils.study import Study
from petseg_utils.training.recipes import RECIPES

SCORES = {"miou": "mIoU", "dice": "dice"}
MUCH_OF_IT, LITTLE_OF_IT = 0.1, 0.05  # shares of the unperturbed mIoU
MUCH = 0.05  # a loss of this much mIoU is called five points
CLAIMED = 0.9  # Dice that the original work claims "even under severe degradation"


def model_title(name: str) -> str:
    """Return the title of a model of the sweep, for prose, tables and charts."""
    return titled(CLICKED if name == HELPED else name)


def picture_counts(records: list[dict], model: str, kind: str) -> np.ndarray:
    """Return the confusion counts ``int (N, levels, 5, 3)`` of each picture at each level of one perturbation.

    A first level that changes nothing uses those of the unperturbed pictures.
    """
    by_step = {(row["corruption"], row["level"]): row["counts"] for row in records if row["model"] == model}
    levels = [(kind, float(level)) for level in LEVELS[kind]]
    of_levels = [by_step.get(step) or by_step[CLEAN] for step in levels]
    return np.array(of_levels, np.int64).reshape(len(levels), -1, 5, 3).swapaxes(0, 1)


def models_of(records: list[dict]) -> list[str]:
    """Return the models in the order in which they were first scored."""
    return list(dict.fromkeys(record["model"] for record in records))


def curves(records: list[dict], n_resamples: int) -> pd.DataFrame:
    """Return the scores of the summed counts with 95 % bootstrap intervals over pictures, border and padding left out.

    Returns
    -------
    DataFrame
        One row per model, level and score: ``study``, ``model``, ``encoder``, ``seed``, ``corruption``, ``level``,
        ``score`` (``mIoU`` or ``dice``), ``value``, ``low``, ``high`` (0..1) and ``n_images``.
    """
    rows = []
    for name in models_of(records):
        own = [record for record in records if record["model"] == name]
        made_of, tried = own[0]["conditions"], {record["corruption"] for record in own}
        shared = {"study": made_of["study"], "model": name, "encoder": made_of["encoder"], "seed": made_of["seed"]}
        for kind in [kind for kind in LEVELS if kind in tried]:
            counts = protocol_matrix(picture_counts(records, name, kind), PRIMARY)
            whole, drawn = scores(counts.sum(0)), scores(resampled_sums(counts, n_resamples))
            for key, score in SCORES.items():
                low, high = percentile_interval(drawn[key])
                for at, level in enumerate(LEVELS[kind]):
                    row = {"corruption": kind, "level": level, "score": score, "value": whole[key][at]}
                    rows.append(shared | row | {"low": low[at], "high": high[at], "n_images": len(counts)})
    return pd.DataFrame(rows)


def ranking(records: list[dict], n_resamples: int) -> pd.DataFrame:
    """Rank the models by how much of their mIoU they keep under the eight perturbations of the original study.

    ``kept`` is the mean, over perturbations and their nine harmful levels, of the mIoU divided by the unperturbed one.
    Pictures are resampled in the same way for all models and levels.

    Returns
    -------
    DataFrame
        ``model``, ``clean`` (mIoU), ``kept``, ``low``, ``high`` (95 % interval over pictures) and ``mean`` (mIoU over
        the same levels: who is best when perturbed, not who loses least); the highest ``kept`` first.
    """
    rows = []
    for name in models_of(records):
        whole, drawn = [], []
        for kind in ORIGINAL:
            counts = protocol_matrix(picture_counts(records, name, kind), PRIMARY)
            whole.append(scores(counts.sum(0))["miou"])
            drawn.append(scores(resampled_sums(counts, n_resamples))["miou"])
        kept = np.mean([values[1:] / values[0] for values in whole])
        kept_drawn = np.mean([values[:, 1:] / values[:, :1] for values in drawn], axis=(0, 2))
        low, high = percentile_interval(kept_drawn)
        mean = np.mean([values[1:] for values in whole])
        row = {"model": name, "clean": whole[0][0], "kept": kept, "low": low, "high": high, "mean": mean}
        rows.append(row)
    return pd.DataFrame(rows).sort_values("kept", ascending=False, ignore_index=True)


def relative_loss(table: pd.DataFrame) -> pd.DataFrame:
    """Return the share of the unperturbed mIoU lost at the worst level: a row per model, a column per perturbation.

    The worst level is the one with the lowest mIoU.  This is usually the last one, but not for rotation: a quarter turn
    uncovers no corners.
    """
    of_miou = table[table["score"] == "mIoU"].groupby(["model", "corruption"], sort=False)["value"]
    loss = 1 - of_miou.min() / of_miou.first()
    return loss.unstack().reindex(index=table["model"].unique(), columns=[k for k in LEVELS if k != "click_offset"])


def loss_sentences(loss: pd.DataFrame) -> str:
    """Say what costs each model much or little at the worst level of `relative_loss`, and what all share; Markdown."""
    lines, named = [], loss.rename(columns=lambda kind: TITLES[kind][0])
    for name, losses in named.iterrows():
        ordered = losses.dropna().sort_values(ascending=False)
        much = ", ".join(f"{kind} {value:.0%}" for kind, value in ordered[ordered >= MUCH_OF_IT].items())
        little = ", ".join(ordered.index[ordered < LITTLE_OF_IT])
        lines.append(
            f"* {model_title(str(name))}: a tenth or more of its mIoU to {much or 'nothing'}; less than a twentieth "
            f"each to {little or 'nothing'}."
        )
    return "What each loses at the worst level:\n\n" + "\n".join(lines) + f"\n\n{shared_losses(loss)}"


def shared_losses(loss: pd.DataFrame) -> str:
    """Say what costs every model at least a tenth of its mIoU, and what costs none a twentieth; two sentences."""
    titles = loss.rename(columns=lambda kind: TITLES[kind][0]).dropna(axis=1)
    every = ", ".join(titles.columns[(titles >= MUCH_OF_IT).all()])
    none = ", ".join(titles.columns[(titles < LITTLE_OF_IT).all()])
    much = f"Every model loses a tenth or more to: {every}." if every else "None costs every model a tenth or more."
    little = f"No model loses a twentieth to: {none}." if none else "Each costs at least one model a twentieth or more."
    return f"{much} {little}"


def breaking_points(table: pd.DataFrame) -> pd.DataFrame:
    """Return the level at which each model has lost 5 points of mIoU; NaN if it never does.

    The level is interpolated linearly between the last level before the loss and the first one after it.

    Returns
    -------
    DataFrame
        One row per perturbation, one column per model, in the units of the levels.
    """
    points: dict[str, dict[str, float]] = {}
    for (model, kind), group in table[table["score"] == "mIoU"].groupby(["model", "corruption"], sort=False):
        lost = group["value"].iloc[0] - group["value"].to_numpy()
        levels = group["level"].to_numpy(float)
        beyond = np.flatnonzero(lost > MUCH)
        at = np.nan
        if len(beyond):
            after = beyond[0]
            part = (MUCH - lost[after - 1]) / (lost[after] - lost[after - 1])
            at = levels[after - 1] + part * (levels[after] - levels[after - 1])
        points.setdefault(model, {})[kind] = at
    return pd.DataFrame(points).reindex(LEVELS)


def verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """Judge whether Dice is above 0.9 at the hardest level of each of the original perturbations.

    Returns
    -------
    DataFrame
        One row per perturbation, one column per model: ``yes`` if the whole 95 % interval lies above 0.9, ``no`` if it
        lies below, ``unsure`` if it contains 0.9.
    """
    hardest = table[(table["score"] == "dice") & table["corruption"].isin(ORIGINAL)]
    hardest = hardest.groupby(["corruption", "model"], sort=False).last()
    words = np.select([hardest["low"] > CLAIMED, hardest["high"] < CLAIMED], ["yes", "no"], "unsure")
    judged = pd.Series(words, hardest.index).unstack()
    return judged.reindex(index=list(ORIGINAL), columns=table["model"].unique())


def verdict_sentences(table: pd.DataFrame, judged: pd.DataFrame) -> str:
    """Put the `verdicts` (`judged`) on some `curves` (`table`) into words.

    A model that is not above 0.9 without perturbation has nothing to keep, so its verdicts are left out.
    """
    clean = table[(table["score"] == "dice") & (table["corruption"] == ORIGINAL[0])].groupby("model", sort=False)
    starts, said, too_low = clean["value"].first(), [], []
    for name, verdict in judged.items():
        start = f"{model_title(str(name))} ({starts[name]:.3f} unperturbed)"
        if starts[name] <= CLAIMED:
            too_low.append(start)
            continue
        number = f"**{(verdict == 'yes').sum()} of {len(verdict)}** perturbations"
        sentence = f"The {start} stays above {CLAIMED} at the hardest level of {number}"
        for word, words in (("unsure", "it is unsure"), ("no", "it falls below")):
            kinds = [TITLES[kind][0] for kind in verdict.index[verdict == word]]
            sentence += f"; {words} under {', '.join(kinds)}" if kinds else ""
        said.append(f"{sentence}.")
    if too_low:
        said.append(f"Not above {CLAIMED} to begin with: {', '.join(too_low)}.")
    return " ".join(said) + " This neither confirms nor refutes the claim, which is about another model and Dice."


def helped_by(table: pd.DataFrame) -> pd.DataFrame:
    """Return what one click adds to the mIoU, at the level of each perturbation at which the decoder is worst.

    Before the click, the mask is the decoder's.
    """
    of_miou = table[table["score"] == "mIoU"].set_index(["corruption", "level", "model"])["value"].unstack()
    both = of_miou[["decoder", HELPED]].dropna()
    worst = both["decoder"].groupby("corruption").idxmin()
    both = both.loc[worst].droplevel("level").reindex([kind for kind in LEVELS if kind in worst])
    return both.assign(gain=both[HELPED] - both["decoder"])


def for_reading(table: pd.DataFrame, *, units: bool = False) -> pd.DataFrame:
    """Return a table by perturbation and model with titles in place of names, and with the levels' units if asked."""
    names = [TITLES[kind] if units else TITLES[kind][0] for kind in table.index]
    index = pd.MultiIndex.from_tuples(names, names=["", "level"]) if units else names
    return table.set_axis(index).rename(columns=model_title)


def write_curves(study: Study, records: list[dict], table: pd.DataFrame) -> None:
    """Write the curves as ``robustness.csv``, and their records as ``robustness.jsonl``, beside the figures."""
    study.figures_dir.mkdir(parents=True, exist_ok=True)
    table.to_csv(study.figures_dir / "robustness.csv", index=False, float_format="%.6f")
    lines = []
    for name in models_of(records):
        own = [record for record in records if record["model"] == name]
        version = RECIPES[PROMPTED if name == HELPED else name].version
        line = {"model": name, "clicks": int(name == HELPED), "recipe": version, "steps": len(own), "protocol": PRIMARY}
        lines.append(line | own[0]["conditions"] | {key: own[0][key] for key in ("versions", "commit")})
    write_records(study.figures_dir / "robustness.jsonl", lines)
