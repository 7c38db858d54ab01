"""Every weight that ships is described, with its scores and its limits."""

from petseg_utils.models.cards import shipped_cards
from petseg_utils.report.model_cards import model_card


def test_every_weight_that_ships_has_a_card_to_read():
    for name, card in shipped_cards().items():
        text = model_card(card)
        assert f"{card['n_images']} photos with masks" in text and "**Limits:**" in text and "CC BY-SA 4.0" in text
        assert text.count("| ") > 20, f"no test scores in the card of {name}"
        assert not card["encoder"] or "**not CLIP**" in text
