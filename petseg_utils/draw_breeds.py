"""The invented breeds of the drawn sample and their coats."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from petseg_utils.draw_textures import blend, look_up, noise_tile, ramp

# The body parts an animal is made of; every blob has one of these numbers.
TORSO, LEG, TAIL, NECK, HEAD, MUZZLE, EAR, NOSE, COLLAR, TONGUE, TAG = range(11)

# Fur colours (base, markings, light parts).  Cats and dogs draw from the same ones: colour must not tell them apart.
PALETTES = {
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
    """What the animals of one invented breed have in common."""

    name: str
    species: int  # 1 cat, 2 dog
    pattern: str
    palettes: tuple[str, ...]
    ears: str = "pointed"  # or "floppy" (folded down, on a cat)
    hair: int = 1  # 0 short, 1 medium, 2 long
    tail: str = "long"  # "long", "bushy", "curl" or "short"
    legs: float = 1.0  # length of the legs
    size: float = 1.0  # share of each species' pictures, relative to the other breeds


# Every cat breed has a dog breed of much the same coats, so that colour says little about the species.
BREEDS = (
    Breed("Ginger_tabby", 1, "tabby", ("ginger", "cream"), size=1.3),
    Breed("Silver_mackerel", 1, "tabby", ("silver", "grey"), legs=1.1, size=1.0),
    Breed("Brown_tiger", 1, "tabby", ("brown", "sand"), hair=2, tail="bushy", size=1.1),
    Breed("Leopard_moggy", 1, "spots", ("sand", "snowblack", "silver"), hair=0, legs=1.15),
    Breed("Tuxedo_tom", 1, "bicolour", ("black", "grey", "chocolate"), size=1.2),
    Breed("Patchwork_queen", 1, "harlequin", ("snowblack", "snowbrown"), size=0.8),
    Breed("Milk_and_ink", 1, "patches", ("snowblack", "snowginger", "snowbrown"), ears="floppy", size=1.1),
    Breed("Cream_point", 1, "points", ("cream", "sand", "grey"), hair=2, tail="bushy", size=0.9),
    Breed("Blue_velvet", 1, "plain", ("grey", "silver"), hair=0, ears="floppy", size=0.8),
    Breed("Midnight_mouser", 1, "plain", ("black", "chocolate"), size=0.8),
    Breed("Snow_puff", 1, "plain", ("white", "cream"), hair=2, tail="bushy", legs=0.8, size=0.9),
    Breed("Smoke_longcoat", 1, "smoke", ("grey", "ginger", "black"), hair=2, tail="bushy", size=0.9),
    Breed("Bobtail_merle", 1, "merle", ("silver", "grey"), tail="short", size=0.8),
    Breed("Saddleback_lop", 1, "saddle", ("tan", "ginger", "brown"), ears="floppy", size=1.1),
    Breed("Cocoa_ticked", 1, "ticked", ("brown", "chocolate", "tan"), hair=0, legs=1.1, size=1.1),
    Breed("Sooty_mask", 1, "mask", ("sand", "cream"), hair=0, ears="floppy", size=0.8),
    Breed("ginger_bounder", 2, "tabby", ("ginger", "cream"), tail="bushy", size=1.2),
    Breed("silver_streak", 2, "brindle", ("silver", "grey"), hair=0, legs=1.15, size=1.0),
    Breed("brindle_bouncer", 2, "brindle", ("brown", "sand"), ears="floppy", size=1.1),
    Breed("dotted_runner", 2, "spots", ("sand", "snowblack", "silver"), hair=0, ears="floppy", legs=1.15),
    Breed("tuxedo_scamp", 2, "bicolour", ("black", "grey", "chocolate"), legs=0.9, size=1.2),
    Breed("harlequin_hopper", 2, "harlequin", ("snowblack", "snowbrown"), hair=2, ears="floppy", size=0.8),
    Breed("pinto_pal", 2, "patches", ("snowblack", "snowginger", "snowbrown"), ears="floppy", size=1.2),
    Breed("cream_wolfling", 2, "points", ("cream", "sand", "grey"), hair=2, tail="bushy", size=0.9),
    Breed("blue_barker", 2, "plain", ("grey", "silver"), hair=0, ears="floppy", size=0.8),
    Breed("coal_digger", 2, "plain", ("black", "chocolate"), legs=0.75, tail="short", size=0.8),
    Breed("cloud_fluff", 2, "plain", ("white", "cream"), hair=2, tail="curl", size=0.9),
    Breed("smoky_foxling", 2, "smoke", ("grey", "ginger", "black"), hair=2, tail="bushy", size=0.9),
    Breed("storm_merle", 2, "merle", ("silver", "grey"), tail="bushy", size=0.8),
    Breed("saddle_tracker", 2, "saddle", ("tan", "ginger", "brown"), tail="bushy", size=1.1),
    Breed("brown_hound", 2, "ticked", ("brown", "chocolate", "tan"), hair=0, ears="floppy", size=1.2),
    Breed("masked_stroller", 2, "mask", ("sand", "cream"), hair=0, ears="floppy", tail="curl", legs=0.9, size=0.8),
)


def coat_colours(
    pattern: str,
    palette: tuple,
    part: NDArray[np.int64],
    along: NDArray[np.float64],
    body: NDArray[np.float64],
    head: NDArray[np.float64],
    curly: bool,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Colour of the fur before light falls on it.

    Parameters
    ----------
    pattern : str
        One of the patterns below ("tabby", "patches", ...); an unknown one gives a plain coat.
    palette : tuple
        Three RGB colours: base, markings, light parts.
    part, along : ndarray
        ``(N,)``: body part and how far along it (0 at the root, 1 at the tip) for every pixel.
    body, head : ndarray
        ``(3, N)``: place in the frame of the body (forward, up, sideways) and of the head (right, up, forward; in head
        radii).
    curly : bool
        Wavy locks, as most dogs have, or the fine bands of most cats' hair.
    rng : Generator
        Where the patches of this animal lie.

    Returns
    -------
    ndarray
        ``(N, 3)``, 0..255.
    """
    base, mark, light = (np.array(c, dtype=np.float64) for c in palette)
    base = np.clip(base + rng.normal(0, 7) + rng.normal(0, 3, 3), 12, 252)
    face = (part == HEAD) | (part == MUZZLE) | (part == EAR)
    hx, hy, hz = head
    # One place for the noise: the head's frame on the head, the body's elsewhere, shifted at random.
    u = np.where(face, hx * 0.55 + 9, body[0] + 0.35 * body[2]) + rng.uniform(0, 20)
    v = np.where(face, hy * 0.55, body[1] - 0.25 * body[2]) + rng.uniform(0, 20)
    wobble = look_up(noise_tile(7.0, 1), u * 30, v * 30)
    patch = look_up(noise_tile(9.0, 2), u * 17, v * 17)
    speck = look_up(noise_tile(2.4, 4), u * 34, v * 34)
    colour = np.broadcast_to(base, (part.size, 3)).copy()
    back = ramp(np.where(part == TORSO, body[1] - np.median(body[1]), 0.0), -0.3, 0.5)
    colour = blend(colour, base * 0.82, 0.6 * back)
    limb = (part == LEG) | (part == TAIL)
    paw = np.where(part == LEG, ramp(along, 0.55, 0.9), 0.0) + np.where(part == TAIL, ramp(along, 0.4, 0.9), 0.0)
    snout = np.where(
        face & (part != EAR), ramp(-hy + 0.55 * (hz - 0.7) - 0.5 * np.abs(hx) + 0.1 * wobble, 0.0, 0.3), 0.0
    )
    bib = np.where(
        (part == NECK) | (part == TORSO),
        ramp(body[0] - 0.9 * np.abs(body[2]) - 0.5 * body[1] + 0.1 * wobble, -0.1, 0.2),
        0.0,
    )
    belly = np.where(part == TORSO, ramp(-body[1] + 0.08 * wobble, -0.65, -0.3), 0.0)
    if pattern in ("tabby", "brindle", "ticked"):
        pace = {"tabby": 15.0, "brindle": 19.0, "ticked": 17.0}[pattern]
        lines = np.where(limb, along * 26, np.where(face, hx * 13 + 1.2, body[0] * pace + 2 * body[1]))
        waves = np.sin(lines + (1.3 if pattern != "brindle" else 2.6) * wobble)
        strength = {"tabby": 0.85, "brindle": 0.8, "ticked": 0.3}[pattern]
        # A cheek has few stripes, a forehead many.
        where = np.where(face, 0.25 + 0.75 * ramp(hy, 0.1, 0.4), 1.0) * np.where(part == EAR, 0.3, 1.0)
        colour = blend(colour, mark, strength * where * ramp(waves + 0.35 * speck, 0.0, 0.7))
        colour = blend(colour, light, 0.75 * np.maximum(snout, belly * 0.6))
    elif pattern == "spots":
        colour = blend(
            colour, mark, 0.9 * ramp(speck + 0.35 * patch, 0.75, 1.15) * np.where(face, ramp(hy, 0.0, 0.4), 1.0)
        )
        colour = blend(colour, light, 0.8 * np.maximum(snout, belly))
    elif pattern == "patches":
        side = np.where(
            face & (part != MUZZLE), ramp(np.abs(hx - rng.uniform(-0.1, 0.1)), 0.12, 0.25) * ramp(hy, -0.5, 0.0), 0.0
        )
        colour = blend(
            colour, mark, np.maximum(side * (rng.random() < 0.8), np.where(face, 0.0, ramp(patch, 0.25, 0.4)))
        )
    elif pattern == "harlequin":
        colour = blend(colour, mark, ramp(patch, 0.1, 0.3))
        other = np.array(PALETTES["ginger"][0], dtype=np.float64)
        colour = blend(colour, other, ramp(wobble - 0.6 * patch, 0.7, 0.9))
        colour = blend(colour, light, 0.9 * np.maximum(snout, bib))
    elif pattern == "points":
        mask = np.where(face, ramp(hz - 0.8 * np.abs(hx) - 0.35 * hy + 0.08 * wobble, 0.2, 0.75), 0.0)
        colour = blend(colour, mark, np.clip(0.9 * np.maximum(np.maximum(mask, paw), part == EAR), 0, 1))
    elif pattern == "bicolour":
        blaze = np.where(
            face & (part != EAR), ramp(0.24 - np.abs(hx + 0.06 * wobble) + 0.1 * (0.3 - hy), 0.0, 0.1), 0.0
        )
        socks = np.where(part == LEG, ramp(along, 0.5, 0.62), 0.0) + np.where(
            part == TAIL, ramp(along, 0.85, 0.95), 0.0
        )
        blaze = blaze * (rng.random() < 0.6)
        colour = blend(colour, light, np.clip(np.maximum.reduce([snout, bib, belly, socks, blaze]), 0, 1))
    elif pattern == "saddle":
        saddle = np.where(part == TORSO, ramp(body[1] + 0.1 * wobble, 0.62, 0.95), 0.0)
        saddle = (
            saddle
            + np.where(part == TAIL, 0.8 * ramp(along, 0.9, 0.3), 0.0)
            + np.where(part == NECK, ramp(-body[0], -1, 0), 0)
        )
        colour = blend(colour, mark, np.clip(saddle, 0, 1))
        colour = blend(
            colour, mark, 0.8 * np.where(part == EAR, 1.0, np.where(face, ramp(hy - 0.3 * hz, 0.25, 0.7), 0.0))
        )
        colour = blend(colour, light, 0.6 * np.maximum(snout, bib))
    elif pattern == "merle":
        colour = blend(colour, mark, 0.85 * ramp(speck * 0.5 + patch, 0.3, 0.55))
        colour = blend(colour, light, 0.9 * np.maximum(snout * 0.8, bib))
    elif pattern == "mask":
        mask = np.where(face, ramp(hz - 0.6 * np.abs(hx) - 0.5 * hy, 0.35, 0.8), 0.0)
        colour = blend(colour, mark, 0.85 * np.maximum(mask, np.where(part == EAR, 0.8, 0.0)))
        colour = blend(colour, light, 0.7 * np.maximum(belly, bib))
    elif pattern == "smoke":
        colour = blend(colour, light, 0.4 * np.maximum(bib, np.where(part == NECK, 0.7, 0.0)))
        colour = blend(colour, mark, 0.5 * np.clip(paw + snout, 0, 1))
    else:
        colour = blend(colour, light, rng.uniform(0.0, 0.5) * np.maximum(snout, belly))
    if curly:
        # Locks stand out from the coat: lit from above, they are light on top and dark below.
        wool = noise_tile(4.0, 20)
        slope = look_up(wool, u * 80, v * 90) - look_up(wool, u * 80 + 2, v * 90 + 3)
        tone = np.sin(np.clip(2.9 * slope, -1.57, 1.57))
        colour = colour * 1.12  # a long face lies more in its own shade; this makes up for it
    else:
        across = np.where(face, hx * 0.7, np.where(part == LEG, body[1], body[0] + 0.4 * body[2]))
        across = np.where(part == TAIL, along * 1.5, across)
        tone = np.sin(30 * across + 0.9 * wobble + 0.5 * speck)
    return colour * (1 + 0.035 * speck + 0.19 * tone)[:, None] + (13 * tone)[:, None]
