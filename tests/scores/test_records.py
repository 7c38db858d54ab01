"""Records hold what repeats them, and are kept once each."""

import json

import pytest

from petseg_utils.scores.metrics import PROTOCOLS
from petseg_utils.scores.predictions import predict
from petseg_utils.scores.records import append_records, make_records, read_records
from petseg_utils.study import PetsegError
from tests.scores.by_colour import ByColour

CARD = {"model": "unet", "encoder": None, "study": "smoke", "seed": 0, "data": "x", "n_images": 9, "n_breeds": 4}


@pytest.fixture
def records(study, splits):
    """Records of one run on the test pictures."""
    model = ByColour()
    return make_records(study, CARD, "test", splits["test"], predict(model, splits["test"]), model)


def test_records_hold_what_a_reader_needs_to_repeat_them(records, splits):
    assert [record["protocol"] for record in records] == list(PROTOCOLS)
    for record in records:
        assert record["n_images"] == 6 and record["n_breeds"] == 4 and record["data"] == splits["test"].fingerprint
        assert {"seed", "versions", "commit", "machine", "seconds_per_picture"} <= set(record)
        low, high = record["scores"]["ci95"]["miou"]
        assert low <= record["scores"]["miou"] <= high
        json.dumps(record, allow_nan=False)


def test_appending_the_same_evaluation_replaces_it(records, tmp_path):
    path = tmp_path / "records.jsonl"
    append_records(path, records)
    append_records(path, records)
    append_records(path, [record | {"seed": 1} for record in records])
    assert [record["seed"] for record in read_records(path)] == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("line", ['{"model": "unet", "enc', "{}", "[]", "7", "null", "\xff", "[" * 100_000])
def test_a_line_that_was_cut_or_is_no_record_is_told_by_its_number(records, tmp_path, line):
    path = tmp_path / "records.jsonl"
    append_records(path, records[:1])
    with path.open("ab") as file:
        file.write(b"\n" + line.encode("latin-1"))
    for read in (read_records, lambda path: append_records(path, records)):
        with pytest.raises(PetsegError, match=r"records.jsonl, line 3, is cut off or not a record: delete the line"):
            read(path)
