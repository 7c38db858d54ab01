"""What CLIP's words find, worked out by hand."""

import numpy as np
import open_clip
import torch

from petseg_utils.experiments.zero_shot import PROMPTS, segment_by_words
from petseg_utils.models.clip import load_clip
from tests.models.tiny_clip import by_hand, register


def test_words_name_the_patches_they_resemble(tmp_path, splits, no_network):
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    register(tmp_path, "tiny-text", text_cfg=text)
    test = splits["test"]
    classes = segment_by_words("clip:tiny-text/random", test)
    assert classes.shape == test.labels.shape
    # By hand: the token of the patch in the middle of a cell, and the sentence whose direction it shares most.
    model, _ = load_clip("clip:tiny-text/random", 64)
    image = torch.from_numpy(np.array(test.images[:1])).permute(0, 3, 1, 2)
    with torch.no_grad():
        tokens, _ = by_hand(model, image)
        patches = model.visual.ln_post(tokens[-1])[0, 1:] @ model.visual.proj
        texts = model.encode_text(open_clip.get_tokenizer("tiny-text")(list(PROMPTS)))
    likeness = torch.nn.functional.cosine_similarity(patches[:, None], texts[None], dim=-1).reshape(8, 8, 3)
    sure = likeness.topk(2).values.diff().abs()[..., 0] > 0.05
    cells = likeness.argmax(-1).numpy()
    middle = classes[0].reshape(8, 8, 8, 8)[:, 3:5, :, 3:5].transpose(0, 2, 1, 3).reshape(8, 8, 4)
    assert sure.any()
    agree = (middle == cells[..., None]).mean(-1)[sure.numpy()]
    assert agree.mean() > 0.8
