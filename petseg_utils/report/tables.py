"""Tables of results as HTML: sortable in a report, and readable without its script and style sheet."""

import pandas as pd
from markupsafe import Markup, escape

from petseg_utils.experiments.elsewhere import clicked_records
from petseg_utils.models.names import count_of, encoder_title, looks_at, titled
from petseg_utils.scores.clicks import WORSE
from petseg_utils.scores.intervals import share_interval
from petseg_utils.scores.metrics import PROTOCOLS
from petseg_utils.scores.results import PRIMARY, PROMPTED, SCORE_NAMES, flat_clicks, processor, select, time_text
from petseg_utils.study import load_study
from petseg_utils.training.recipes import recipe_of

CAPTIONS = {
    "ignore_border": "Border pixels left out of the scores",
    "border_as_background": "Border pixels counted as background",
    "binary_border_as_pet": "Pet or not, border pixels counted as pet",
}
NOTE = "Before a click, the click model's masks are the decoder's. What clicks buy has a table of its own."


def cell(text: str, value: object = None, *below: str, number: bool = True) -> dict:
    """Return one cell: its text, the value it is sorted by, and small print below it."""
    return {"text": text, "value": text if value is None else value, "below": below, "number": number}


def html_table(columns: list[str], rows: list[list[dict]], caption: str) -> Markup:
    """Render a sortable table of `cell` rows; the first cell of a row is its header."""
    head = "".join(
        f'<th scope="col"{_class(first["number"])}>{escape(name)}</th>'
        for name, first in zip(columns, rows[0], strict=True)
    )
    body = "".join(f"<tr>{_cell(row[0], 'th')}{''.join(_cell(part, 'td') for part in row[1:])}</tr>\n" for row in rows)
    return Markup(
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">\n'
        f'<table class="results sortable">\n<caption><span>{escape(caption)}</span></caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n</div>\n"
    )


def _class(number: bool) -> str:
    return ' class="number"' if number else ""


def _cell(parts: dict, tag: str) -> str:
    scope = ' scope="row"' if tag == "th" else ""
    below = "".join(f" <small>{escape(line)}</small>" for line in parts["below"])
    value = escape(parts["value"])
    return f'<{tag}{scope}{_class(parts["number"])} data-value="{value}">{escape(parts["text"])}{below}</{tag}>'


def scores_table(table: pd.DataFrame, caption: str) -> Markup:
    """Render rows of a `results.results_table` of one protocol as a sortable table, the best first.

    Below a score are its 95 % interval and, with several seeds, the smallest and largest of their scores.  The time per
    picture is not here: it is comparable in `comparisons.timing_table` only.
    """
    table = table.sort_values("mIoU", ascending=False)
    names = list(SCORE_NAMES.values())
    names += [name for name in table.columns if name.startswith("IoU ") and f"{name} low" in table.columns]
    columns = ["model", *names, "test loss", "weights", "training"]
    rows = []
    for _, row in table.iterrows():
        below = [f"on {encoder_title(row['encoder'])}"] if isinstance(row["encoder"], str) else []
        below += ["1 seed" if row["seeds"] == 1 else f"{row['seeds']} seeds"]
        below += [f"{row['epochs']} epochs on a {row['trained on']}"]
        below += [f"stale, of commit {row['stale']}"] if row["stale"] else []
        title = titled(row["model"])
        rows.append([cell(title, title, *below, number=False), *(_score(row, name) for name in names)])
        weights, trained = row["parameters"], row["trained parameters"]
        rows[-1] += [
            _plain(row["test_loss"]),
            cell(count_of(weights), weights, f"{count_of(trained)} trained"),
            _training_time(row["training_seconds"]),
        ]
    return html_table(columns, rows, caption)


def breeds_table(table: pd.DataFrame) -> Markup:
    """Render all breeds of a `failures.breed_table` as a sortable table that opens on a click."""
    models = table.columns.drop(["species", "pictures"])
    rows = [
        [cell(breed, breed, row["species"], number=False), cell(str(row["pictures"]), row["pictures"])]
        + [_plain(row[model]) for model in models]
        for breed, row in table.iterrows()
    ]
    inner = html_table(
        ["breed", "pictures", *map(titled, models)], rows, "IoU of each breed's own species, border left out."
    )
    return Markup(f'<details class="more"><summary>All {len(table)} breeds</summary>\n{inner}</details>\n')


def _score(row: pd.Series, name: str) -> dict:
    if pd.isna(row[name]):
        return cell("–", "")
    below = [f"[{row[f'{name} low']:.3f}, {row[f'{name} high']:.3f}]"]
    below += [f"{row[f'{name} min']:.3f}–{row[f'{name} max']:.3f}"] if row["seeds"] > 1 else []
    return cell(f"{row[name]:.3f}", row[name], *below)


def _training_time(seconds: float) -> dict:
    if not seconds > 0:
        return cell("–", "")
    return cell(time_text(seconds), seconds)


def _plain(value: float) -> dict:
    return cell("–", "") if pd.isna(value) else cell(f"{value:.3f}", value)


def natural_clicks_table(records: list[dict]) -> pd.DataFrame:
    """Return what one click on the deepest wrong part does at home and elsewhere, in a form for reading."""
    rows = []
    for name, part in (("missed@1", "is missing"), ("excess@1", "is too much")):
        for record in clicked_records(records):
            scores = {key: value for key, (value, _, _) in flat_clicks(record).items() if key.startswith(name)}
            n, worse = round(scores[f"{name}.n_images"]), round(scores[f"{name}.worse"] * scores[f"{name}.n_images"])
            low, high = share_interval(worse, n)
            rows.append(
                {
                    "a click on what": part,
                    "photos": f"{n} of {record['source']}",
                    "mean IoU before": f"{scores[f'{name}.before']:.3f}",
                    "after": f"{scores[f'{name}.after']:.3f}",
                    f"lost more than {WORSE}": f"{worse or 'none'} ({low:.0%} to {high:.0%})",
                }
            )
    return pd.DataFrame(rows)


def budgets_table(records: list[dict]) -> pd.DataFrame:
    """Return how, and for how long, each model was trained: a row per model and study, in a form for reading.

    The settings are those in the records, not the study's present ones.  ``epochs`` is the most there could be;
    ``training`` is the mean over seeds.  A model that makes no masks has no records: its row is made from those of the
    model that starts from it.
    """
    rows: dict[tuple[str, str], list[dict]] = {}
    for record in select(records, protocol=PRIMARY):
        if "stale" not in record:
            run = record["trained_on"] | {key: record[key] for key in ("encoder", "image_size")}
            run["on"] = processor(record)
            took = {"training_seconds": record["training_seconds"]}
            starts_from = recipe_of(record["model"]).starts_from
            first = starts_from and starts_from(load_study(record["study"]))
            if first and not recipe_of(first).makes_masks:
                rows.setdefault((record["study"], first), []).append(run | run["pretraining"])
            rows.setdefault((record["study"], record["model"]), []).append(run | took)
    return pd.DataFrame([_budget(*named, runs) for named, runs in rows.items()])


def _budget(study: str, model: str, runs: list[dict]) -> dict[str, str]:
    run, settings = runs[0], runs[0]["settings"]
    extra, more = run.get("extra"), run["more"]
    photos = f"{run['n_images']}" + (f" + {extra['n_images']} of other sources" if extra else "")
    return {
        "model": titled(model),
        "study": study,
        "epochs": str(settings["epochs"]),
        "batch": str(settings["batch_size"]),
        "learning rate": f"{settings['learning_rate']:g}",
        "width": str(settings["width"]),
        "loss": recipe_of(model).loss_name + " + Dice" * (settings["dice"] > 0),
        "weights averaged": f"decay {settings['average']:g}" if settings["average"] else "no",
        "pixels": looks_at(run["encoder"], run["image_size"]),
        "photos": photos + (f" + {more['n_images']:,} without masks" if more else ""),
        "training": time_text(sum(run["training_seconds"] for run in runs) / len(runs)),
        "on": run["on"],
    }


def protocol_tabs(table: pd.DataFrame, subject: str, *, opened: bool = True) -> Markup:
    """Render the three protocols of a `results.results_table`, one open at a time, the primary one first.

    The click model has no row, because before a click it is the decoder.

    Parameters
    ----------
    table : DataFrame
        All rows to be compared, from one set of pictures.  Those of the click model, which equal the
        decoder's, are left out.
    subject : str
        What the table is about; it goes into the captions and tells groups of tabs apart.
    opened : bool
        Whether the primary protocol starts open; if not, the subject is put before each protocol's name.
    """
    parts, named = [], "" if opened else f"{escape(subject)}. "
    listed = table[table["model"] != PROMPTED]
    for protocol in [protocol for protocol in PROTOCOLS if (listed["protocol"] == protocol).any()]:
        rows = listed[listed["protocol"] == protocol]
        classes = [f"IoU {name}" for name in ("background", "cat", "dog", "pet")]
        rows = rows.drop(columns=[name for name in classes if name in rows and rows[name].isna().all()])
        state = " open" if opened and protocol == PROTOCOLS[0] else ""
        inner = scores_table(rows, f"{subject}. {CAPTIONS[protocol]}.")
        parts.append(
            f'<details class="more" name="{escape(subject)}"{state}><summary>{named}{CAPTIONS[protocol]} '
            f"(<code>{protocol}</code>)</summary>\n{inner}</details>\n"
        )
    note = f'<p class="note">{NOTE}</p>\n' if opened and (table["model"] == PROMPTED).any() else ""
    return Markup("".join(parts) + note)
