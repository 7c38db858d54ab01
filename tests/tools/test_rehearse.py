"""The rehearsal finds what a page must not say where CLIP ran."""

import pytest

from tools.rehearse import wrong_sentences


@pytest.mark.parametrize(
    "sentence",
    [
        "This is the stand-in, not CLIP.",
        "The first maps see texture and edges.",
        "In the last, each picture has a colour of its own.",
        "What it finds alike is mostly the same part of another animal.",
        "The decoder is near its best after a few of them.",
        "The study of photos pays for the encoder at every step instead.",
        "Test scores of the decoder on auto.",
        "Not measured at all: CLIP's features, the full data set.",
        "A decoder of under a million weights turns them into masks.",
        "The frozen network here is a stand-in with ImageNet weights: CLIP's features were not measured.",
        "A network that others trained on a million pictures describes the photo.",
        "The same model on photos",
        "Drawn pictures and photos are different tasks.",
        "In numbers; where photos and drawn pictures disagree, trust the former.",
        "The photos measured are part of the official data set.",
        "On photos: With 33 labels it reaches 0.825.",
        "On photos, the click model on EfficientNet-Lite0 finds the pet.",
        "On photos the U-Net from scratch has mIoU 0.599.",
        "The click is simulated. On photos it was not measured.",
        "Numbers lie beside its figures; photos are never shown.",
        "Two cores pay for a short training.",
        "One command makes all but these longer runs anew.",
        "Times were taken beside other work.",
        "The pictures here are drawn by the project itself.",
    ],
)
def test_a_sentence_that_holds_for_the_stand_in_alone_is_found(tmp_path, sentence):
    page = tmp_path / "page.html"
    page.write_text(f"<h1>04</h1><p>{sentence.replace(' ', '<br>', 1)}</p>", encoding="utf-8")
    assert len(wrong_sentences(page)) == 1
    code = f"<div class='highlight'><pre>say('{sentence}')</pre></div>"  # which only says it where it holds
    right = "The decoder on CLIP ViT-B/16. Not measured at all: energy. "
    right += "In study oxford-cpu, on photos, the click model helps."
    page.write_text(f"{code}<p>{right}</p>", encoding="utf-8")
    assert wrong_sentences(page) == []
