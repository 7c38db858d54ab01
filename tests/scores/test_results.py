"""Tables are made of records, and of nothing else."""

import pytest

from petseg_utils.scores import results
from petseg_utils.scores.predictions import predict
from petseg_utils.scores.records import make_records, read_records
from petseg_utils.study import ROOT
from tests.scores.by_colour import ByColour

CARD = {"model": "unet", "encoder": None, "study": "smoke", "seed": 0, "data": "x", "n_images": 9, "n_breeds": 4}
CARD |= {"settings": {"epochs": 7}}


def test_the_table_is_made_of_the_records(study, splits):
    model = ByColour()
    first = make_records(study, CARD, "test", splits["test"], predict(model, splits["test"]), model)
    second = [
        record | {"seed": 1, "scores": record["scores"] | {"miou": record["scores"]["miou"] - 0.1}} for record in first
    ]
    table = results.results_table(first + second)
    assert len(table) == 3 and (table["seeds"] == 2).all()
    for record, (_, row) in zip(first, table.iterrows(), strict=True):
        value = record["scores"]["miou"]
        assert row["mIoU"] == pytest.approx(value - 0.05)
        assert (row["mIoU min"], row["mIoU max"]) == pytest.approx((value - 0.1, value))
        assert row["IoU background"] == record["scores"]["iou"]["background"]
        assert (row["epochs"], row["trained on"]) == (7, "CPU")
    text = results.report_tables(first + second)
    assert f"| mIoU | {table['mIoU'][0]:.3f} [" in text and "6 test pictures of 4 breeds, 2 seeds" in text


def test_the_table_holds_what_a_model_costs():
    sample_records = read_records(ROOT / "figures" / "sample" / "records.jsonl")
    table = results.results_table(sample_records)
    for record in results.select(sample_records, protocol=results.PRIMARY):
        row = table[(table["model"] == record["model"]) & (table["protocol"] == results.PRIMARY)].iloc[0]
        assert row["training_seconds"] == record["training_seconds"]
        assert row["ms_per_picture"] == pytest.approx(1000 * record["seconds_per_picture"])
        assert row["stale"] == ""
        assert (row["parameters"], row["trained parameters"]) == tuple(
            record["parameters"][key] for key in ("total", "trained")
        )


def test_a_table_of_one_model_is_not_made_of_two():
    two = results.results_table(read_records(ROOT / "figures" / "sample" / "records.jsonl"))
    with pytest.raises(ValueError, match=r"two rows of protocol .*: this table is of one model on one set of pictures"):
        results.protocol_table(two)


def test_a_models_processor_is_the_one_that_trained_it():
    assert results.processor({"device": "cpu", "trained_on": {"device": "cuda"}}) == "GPU"
    assert results.processor({"device": "cuda:0", "trained_on": {"device": "cpu"}}) == "CPU"
    assert results.processor({"device": "cuda:0", "trained_on": {}}) == "GPU"  # an older record
