"""The invented breeds of the drawn sample, and the colours of their coats."""

from dataclasses import dataclass

from petseg_utils.data.drawing.textures import Colour

Palette = tuple[Colour, Colour, Colour]  # base, markings, light parts
CAT, DOG = 1, 2  # species, as in the official lists

# Cats and dogs share these coat colours, so that colour does not give the species away.
PALETTES: dict[str, Palette] = {
    "ginger": ((208, 138, 74), (158, 84, 36), (244, 224, 196)),
    "cream": ((226, 200, 160), (184, 140, 94), (248, 240, 226)),
    "black": ((46, 42, 44), (24, 21, 23), (238, 234, 228)),
    "grey": ((136, 138, 146), (76, 78, 88), (228, 228, 230)),
    "brown": ((140, 100, 66), (66, 45, 32), (226, 204, 174)),
    "chocolate": ((98, 64, 46), (56, 35, 26), (216, 188, 160)),
    "silver": ((182, 182, 182), (74, 74, 80), (242, 242, 240)),
    "white": ((238, 234, 226), (208, 198, 184), (250, 248, 244)),
    "snowblack": ((240, 237, 232), (40, 36, 38), (250, 248, 244)),
    "snowginger": ((242, 236, 226), (198, 124, 62), (250, 248, 244)),
    "snowbrown": ((238, 230, 216), (104, 70, 48), (250, 247, 242)),
    "tan": ((186, 136, 84), (40, 34, 34), (224, 182, 132)),
    "sand": ((222, 204, 176), (84, 60, 48), (240, 230, 212)),
}


@dataclass(frozen=True)
class Breed:
    """An invented breed: what all of its animals have in common.

    Parameters
    ----------
    name : str
        Capitalised for cats, in lower case for dogs, as in Oxford-IIIT Pet.
    species : int
        `CAT` or `DOG`.
    pattern : str
        Markings of the coat, see `fur.coat_colours`.
    palettes : tuple of str
        Keys of `PALETTES`; each animal is drawn with one of them.
    ears : {"pointed", "floppy"}
        A cat's floppy ears are folded forward.
    hair : int
        Length of the hair: 0 short, 1 medium, 2 long.
    tail : {"long", "bushy", "curl", "short"}
        Shape of the tail.
    legs : float
        Length of the legs; 1 is average.
    size : float
        How often the breed is drawn, relative to the other breeds.
    """

    name: str
    species: int
    pattern: str
    palettes: tuple[str, ...]
    ears: str = "pointed"
    hair: int = 1
    tail: str = "long"
    legs: float = 1.0
    size: float = 1.0


# Each cat breed has its counterpart among the dogs, with much the same coat.
BREEDS = (
    Breed("Ginger_tabby", CAT, "tabby", ("ginger", "cream"), size=1.3),
    Breed("Silver_mackerel", CAT, "tabby", ("silver", "grey"), legs=1.1, size=1.0),
    Breed("Brown_tiger", CAT, "tabby", ("brown", "sand"), hair=2, tail="bushy", size=1.1),
    Breed("Leopard_moggy", CAT, "spots", ("sand", "snowblack", "silver"), hair=0, legs=1.15),
    Breed("Tuxedo_tom", CAT, "bicolour", ("black", "grey", "chocolate"), size=1.2),
    Breed("Patchwork_queen", CAT, "harlequin", ("snowblack", "snowbrown"), size=0.8),
    Breed("Milk_and_ink", CAT, "patches", ("snowblack", "snowginger", "snowbrown"), ears="floppy", size=1.1),
    Breed("Cream_point", CAT, "points", ("cream", "sand", "grey"), hair=2, tail="bushy", size=0.9),
    Breed("Blue_velvet", CAT, "plain", ("grey", "silver"), hair=0, ears="floppy", size=0.8),
    Breed("Midnight_mouser", CAT, "plain", ("black", "chocolate"), size=0.8),
    Breed("Snow_puff", CAT, "plain", ("white", "cream"), hair=2, tail="bushy", legs=0.8, size=0.9),
    Breed("Smoke_longcoat", CAT, "smoke", ("grey", "ginger", "black"), hair=2, tail="bushy", size=0.9),
    Breed("Bobtail_merle", CAT, "merle", ("silver", "grey"), tail="short", size=0.8),
    Breed("Saddleback_lop", CAT, "saddle", ("tan", "ginger", "brown"), ears="floppy", size=1.1),
    Breed("Cocoa_ticked", CAT, "ticked", ("brown", "chocolate", "tan"), hair=0, legs=1.1, size=1.1),
    Breed("Sooty_mask", CAT, "mask", ("sand", "cream"), hair=0, ears="floppy", size=0.8),
    Breed("ginger_bounder", DOG, "tabby", ("ginger", "cream"), tail="bushy", size=1.2),
    Breed("silver_streak", DOG, "brindle", ("silver", "grey"), hair=0, legs=1.15, size=1.0),
    Breed("brindle_bouncer", DOG, "brindle", ("brown", "sand"), ears="floppy", size=1.1),
    Breed("dotted_runner", DOG, "spots", ("sand", "snowblack", "silver"), hair=0, ears="floppy", legs=1.15),
    Breed("tuxedo_scamp", DOG, "bicolour", ("black", "grey", "chocolate"), legs=0.9, size=1.2),
    Breed("harlequin_hopper", DOG, "harlequin", ("snowblack", "snowbrown"), hair=2, ears="floppy", size=0.8),
    Breed("pinto_pal", DOG, "patches", ("snowblack", "snowginger", "snowbrown"), ears="floppy", size=1.2),
    Breed("cream_wolfling", DOG, "points", ("cream", "sand", "grey"), hair=2, tail="bushy", size=0.9),
    Breed("blue_barker", DOG, "plain", ("grey", "silver"), hair=0, ears="floppy", size=0.8),
    Breed("coal_digger", DOG, "plain", ("black", "chocolate"), legs=0.75, tail="short", size=0.8),
    Breed("cloud_fluff", DOG, "plain", ("white", "cream"), hair=2, tail="curl", size=0.9),
    Breed("smoky_foxling", DOG, "smoke", ("grey", "ginger", "black"), hair=2, tail="bushy", size=0.9),
    Breed("storm_merle", DOG, "merle", ("silver", "grey"), tail="bushy", size=0.8),
    Breed("saddle_tracker", DOG, "saddle", ("tan", "ginger", "brown"), tail="bushy", size=1.1),
    Breed("brown_hound", DOG, "ticked", ("brown", "chocolate", "tan"), hair=0, ears="floppy", size=1.2),
    Breed("masked_stroller", DOG, "mask", ("sand", "cream"), hair=0, ears="floppy", tail="curl", legs=0.9, size=0.8),
)
