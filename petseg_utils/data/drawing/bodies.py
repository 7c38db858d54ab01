"""The anatomy of the drawn animals: ellipsoids in space for body, legs, tail and head, in several poses.

Space is right-handed: x points right, y up and z towards the viewer.  The ground is y = 0, and an animal is about two
and a half units long.  Each ellipsoid is called a blob; chains of blobs form limbs, and each pixel shows the surface
nearest to the viewer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from petseg_utils.data.drawing.breeds import CAT, Breed
from petseg_utils.data.drawing.textures import Array

Point = tuple[float, float, float]

TORSO, LEG, TAIL, NECK, HEAD, MUZZLE, EAR, NOSE, COLLAR, TONGUE, TAG = range(11)  # body parts


class Frame(NamedTuple):
    """A coordinate system in space.

    Parameters
    ----------
    axes : ndarray
        ``(3, 3)``, orthonormal columns: right, up, forward.
    origin : ndarray
        ``(3,)``, its origin in space.
    size : float
        Length of its unit, in units of space.
    """

    axes: Array
    origin: Array
    size: float

    def to_space(self, points: Array) -> Array:
        """Convert points ``(N, 3)`` of this frame to points of space, ``(N, 3)``."""
        return self.origin + self.size * (self.axes * points[:, None, :]).sum(-1)


class Blob(NamedTuple):
    """One ellipsoid.

    Parameters
    ----------
    centre : ndarray
        ``(3,)``, in space.
    axes : ndarray
        ``(3, 3)``: directions of the semi-axes, as columns.
    lengths : ndarray
        ``(3,)``: lengths of the semi-axes.
    part : int
        `TORSO`, `LEG`, ...
    along : float
        Its position along the limb: 0 at the root, 1 at the tip.
    hair : ndarray
        ``(3,)``: the direction in which its hair lies; the length does not matter.
    """

    centre: Array
    axes: Array
    lengths: Array
    part: int
    along: float
    hair: Array


@dataclass(frozen=True)
class Face:
    """What is needed to paint the face on a head; positions are in the head's frame, in head radii.

    Parameters
    ----------
    cat : bool
        Whether the animal is a cat; otherwise it is a dog.
    axes : tuple of float
        Semi-axes of the skull.
    eyes : tuple of float
        Position of the right eye: sideways and up.
    pads : float
        How far forward the roots of the whiskers are.
    nose, mouth : tuple of float
        Positions of the tip of the nose and of the middle of the mouth.
    ears : tuple
        Root, middle and tip of each pointed ear; empty for other ears.
    """

    cat: bool
    axes: Point
    eyes: tuple[float, float]
    pads: float
    nose: Point
    mouth: Point
    ears: tuple[tuple[Point, Point, Point], ...]


def rotation(yaw: float, pitch: float = 0.0, roll: float = 0.0) -> Array:
    """Return axes as columns (right, up, forward): turned by `yaw`, looking up by `pitch` and tilted by `roll`."""
    cy, sy, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    cr, sr = math.cos(roll), math.sin(roll)
    right, up, forward = (cy, 0.0, -sy), (-sy * sp, cp, -cy * sp), (sy * cp, sp, cy * cp)
    tilted = [
        [r * cr + u * sr for r, u in zip(right, up, strict=True)],
        [u * cr - r * sr for r, u in zip(right, up, strict=True)],
        list(forward),
    ]
    return np.array(tilted).T


class Blobs(list[Blob]):
    """The ellipsoids of an animal or a toy."""

    def add(self, centre: Array, axes: Array, lengths: Point, part: int, along: float, hair: Array) -> None:
        """Add one ellipsoid; see `Blob`."""
        self.append(Blob(centre, axes, np.asarray(lengths, dtype=np.float64), part, along, hair))

    def chain(
        self, points: Sequence[Point], radii: Sequence[float], part: int, frame: Frame, flat: Point = (1, 1, 1)
    ) -> None:
        """Add blobs along a smooth curve.

        Parameters
        ----------
        points : sequence of tuple
            Points through which the curve passes, in `frame`.
        radii : sequence of float
            Radius at each of these points, in units of `frame`.
        part : int
            Body part of all the blobs.
        frame : Frame
            The frame of the points; its axes are also the blobs' axes.
        flat : tuple of float
            Factors of the blobs' three semi-axes.
        """
        scale = frame.size
        knots, thick = np.array(points, dtype=np.float64) * scale, np.array(radii, dtype=np.float64) * scale
        padded = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
        n = len(knots) - 1
        for k in range(n):  # a Catmull-Rom spline from b to c
            a, b, c, d = padded[k : k + 4]
            step = 0.42 * min(thick[k], thick[k + 1]) + 0.02 * scale
            steps = max(2, math.ceil(math.sqrt(float(((c - b) ** 2).sum())) / step))
            t = (np.arange(steps + (k == n - 1)) / steps)[:, None]
            local = b + 0.5 * t * ((c - a) + t * ((2 * a - 5 * b + 4 * c - d) + t * (3 * b - a - 3 * c + d)))
            places = frame.origin + (frame.axes * local[:, None, :]).sum(-1)
            sizes = (thick[k] + (thick[k + 1] - thick[k]) * t) * np.array(flat)
            hair = (frame.axes * (c - b)).sum(1)
            for place, size, at in zip(places, sizes, ((k + t[:, 0]) / n).tolist(), strict=True):
                self.append(Blob(place, frame.axes, size, part, at, hair))


def head_blobs(blobs: Blobs, breed: Breed, head: Frame, rng: np.random.Generator) -> Face:
    """Add a head.

    Parameters
    ----------
    head : Frame
        Where the head is and which way it looks; the frame's size is the head's radius.

    Returns
    -------
    Face
        The positions of eyes, nose, mouth and ears.
    """
    cat = breed.species == CAT
    axes = (1.0, 0.88, 0.88) if cat else (0.92, 0.86, 0.88)
    down = (head.axes * np.array([0, -0.6, -0.8])).sum(1)

    def ball(place: Point, lengths: Point, part: int) -> None:
        centre = head.origin + (head.axes * (np.array(place) * head.size)).sum(1)
        a, b, c = lengths
        blobs.add(centre, head.axes, (head.size * a, head.size * b, head.size * c), part, 0.0, down)

    def rope(points: Sequence[Point], radii: Sequence[float], part: int, flat: Point = (1, 1, 1)) -> None:
        blobs.chain(points, radii, part, head, flat)

    ball((0, 0, 0), axes, HEAD)
    fluff = 1 + 0.12 * (breed.hair == 2)
    tongue = rng.random()
    if cat:
        for side in (-1, 1):
            ball((side * 0.5, -0.3, 0.25), (0.5 * fluff, 0.42, 0.5), HEAD)
            ball((side * 0.19, -0.4, 0.8), (0.27, 0.21, 0.22), MUZZLE)
        ball((0, -0.08, 0.68), (0.24, 0.3, 0.28), HEAD)
        ball((0, -0.6, 0.66), (0.22, 0.17, 0.2), MUZZLE)
        ball((0, -0.24, 0.99), (0.13, 0.085, 0.07), NOSE)
        if tongue < 0.2:  # the tip of a tongue
            rope([(0, -0.48, 0.9), (0, -0.6, 1.0), (0.01, -0.68, 0.96)], [0.1, 0.11, 0.09], TONGUE)
        eyes, pads, nose, mouth = (0.43, 0.08), 0.96, (0, -0.24, 1.04), (0, -0.42, 1.02)
    else:
        long = rng.uniform(1.05, 1.6)
        wide = rng.uniform(0.9, 1.12)
        for side in (-1, 1):
            ball((side * 0.42, -0.3, 0.3), (0.45 * fluff, 0.42, 0.45), HEAD)
        rope([(0, -0.12, 0.5), (0, -0.26, 0.9), (0, -0.3, long)], [0.46 * wide, 0.36 * wide, 0.3 * wide], MUZZLE)
        rope([(0, -0.45, 0.5), (0, -0.56, long - 0.12)], [0.34 * wide, 0.2 * wide], MUZZLE)
        for side in (-1, 1):  # lips
            rope([(side * 0.22, -0.4, 0.75), (side * 0.17, -0.46, long - 0.05)], [0.24 * wide, 0.2 * wide], MUZZLE)
        ball((0, -0.13, long + 0.2), (0.3, 0.215, 0.19), NOSE)
        eyes, pads, nose, mouth = (0.39, 0.14), long + 0.28 - 0.35, (0, -0.13, long + 0.36), (0, -0.5, long + 0.22)
        if tongue < 0.3:
            low = rng.uniform(-1.15, -0.85)
            lolling = [(0.03, -0.6, long - 0.1), (0.05, -0.75, long + 0.14), (0.08, low, long + 0.1)]
            rope(lolling, [0.13, 0.17, 0.13], TONGUE)
    tall = rng.uniform(0.95, 1.25) * (1.0 if cat else 1.08)
    spread = rng.uniform(-0.05, 0.12)
    ears = []
    for side in (-1, 1):
        twitch = rng.normal(0, 0.05)
        if breed.ears == "pointed":
            root = (side * 0.56, 0.48, -0.05)
            middle = (side * (0.66 + spread), 0.48 + 0.4 * tall, -0.04 + twitch)
            tip = (side * (0.72 + 1.6 * spread), 0.48 + 0.8 * tall, -0.02 + twitch)
            rope([root, middle, tip], [0.4, 0.25, 0.04], EAR, (1, 1, 0.4))
            ears.append((root, middle, tip))
        elif cat:  # a folded ear: a short flap that lies forward
            flap = [(side * 0.56, 0.58, 0.0), (side * 0.7, 0.95, 0.14), (side * 0.78, 0.66, 0.5)]
            rope(flap, [0.34, 0.28, 0.1], EAR, (1, 0.8, 0.7))
        else:
            drop = rng.uniform(-0.75, -0.1)
            flap = [
                (side * 0.62, 0.58, 0.0),
                (side * 0.98, 0.4, 0.1),
                (side * 1.04, 0.5 * drop, 0.22),
                (side * 0.96, drop, 0.3),
            ]
            rope(flap, [0.2, 0.28, 0.32, 0.16], EAR, (0.55, 1, 0.9))
    return Face(cat, axes, eyes, pads, nose, mouth, tuple(ears))


def body_blobs(blobs: Blobs, breed: Breed, pose: str, body: Frame, rng: np.random.Generator) -> Array:
    """Add everything below the head.

    Parameters
    ----------
    pose : {"stand", "walk", "sit", "lie", "loaf", "curl"}
        In ``loaf`` the animal lies with its paws tucked in; in ``curl`` its nose is close to its tail.

    Returns
    -------
    ndarray
        ``(3,)``: position for the head, in `body`.
    """
    legs = breed.legs * rng.uniform(0.9, 1.1)
    g = rng.uniform(0.88, 1.1) * (1.0 + 0.06 * breed.hair)  # girth
    thin = 0.155 + 0.02 * breed.hair + rng.uniform(-0.015, 0.02)

    def rope(part: int, *stations: tuple[float, float, float, float]) -> None:
        """Add one chain through stations (forward, up, sideways, radius), none of them below the ground."""
        points = [(sideways, max(up, radius), forward) for forward, up, sideways, radius in stations]
        blobs.chain(points, [station[3] for station in stations], part, body)

    tail_side = rng.choice([-1.0, 1.0])
    wag = rng.uniform(-0.3, 0.3)
    if pose in ("stand", "walk"):
        h = 0.75 * legs
        stride = rng.uniform(0.15, 0.4) if pose == "walk" else rng.uniform(0.0, 0.08)
        rope(TORSO, (-0.85, h + 0.42, 0, 0.42 * g), (0, h + 0.36, 0, 0.42 * g), (0.8, h + 0.42, 0, 0.48 * g))
        for side in (-1, 1):
            swing = stride * side
            z = 0.24 * side * g
            rope(
                LEG,
                (0.78, h + 0.3, z, 0.26 * g),
                (0.72 + 0.4 * swing, 0.5 * h, z, thin),
                (0.8 + swing, 0.2, z, thin * 0.85),
                (0.9 + swing, 0.1, z, thin * 1.05),
            )
            rope(
                LEG,
                (-0.8, h + 0.28, z, 0.36 * g),
                (-0.7 - 0.4 * swing, 0.55 * h, z, 0.2),
                (-1.0 - swing, 0.36, z, thin * 0.8),
                (-0.95 - swing, 0.14, z, thin * 0.85),
                (-0.83 - swing, 0.1, z, thin),
            )
        head = np.array([0.0, h + 1.18 + rng.uniform(-0.25, 0.15), 1.3])
        rope(NECK, (0.75, h + 0.55, 0, 0.42 * g), (head[2] - 0.1, head[1] - 0.2, 0, 0.36))
        base = (-1.15, h + 0.6)
    elif pose == "sit":
        h = 0.75 * legs
        lean = rng.uniform(-0.08, 0.12)
        rope(TORSO, (-0.45, 0.5, 0, 0.52 * g), (-0.1, 0.85, 0, 0.48 * g), (0.22 + lean, h + 0.6, 0, 0.42 * g))
        for side in (-1, 1):
            z = 0.22 * side * g
            rope(
                LEG,
                (0.3 + lean, h + 0.4, z, 0.25 * g),
                (0.34, 0.55, z, thin),
                (0.4, 0.22, z, thin * 0.9),
                (0.5, 0.1, z, thin * 1.1),
            )
            rope(
                LEG,
                (-0.4, 0.5, 0.3 * side * g, 0.42 * g),
                (-0.02, 0.42, 0.5 * side * g, 0.26),
                (0.05, 0.14, 0.52 * side * g, thin),
                (0.3, 0.1, 0.5 * side * g, thin),
            )
        head = np.array([0.0, h + 1.42 + rng.uniform(-0.1, 0.1), 0.42 + lean])
        rope(NECK, (0.22 + lean, h + 0.75, 0, 0.42 * g), (head[2] - 0.1, head[1] - 0.25, 0, 0.36))
        base = (-0.85, 0.25)
    elif pose == "lie":
        rope(TORSO, (-0.85, 0.46, 0, 0.48 * g), (0, 0.48, 0, 0.46 * g), (0.7, 0.58, 0, 0.46 * g))
        for side in (-1, 1):
            z = 0.27 * side * g
            reach = rng.uniform(-0.1, 0.25)
            rope(
                LEG,
                (0.65, 0.4, z, 0.26 * g),
                (0.75, 0.17, z * 1.25, thin),
                (1.15 + reach, 0.12, z * 1.15, thin * 0.9),
                (1.4 + reach, 0.1, z, thin),
            )
            rope(
                LEG,
                (-0.75, 0.42, 0.32 * side * g, 0.4 * g),
                (-0.35, 0.36, 0.5 * side * g, 0.26),
                (-0.4, 0.12, 0.6 * side * g, thin),
                (-0.1, 0.1, 0.58 * side * g, thin),
            )
        head = np.array([0.0, 1.3 + rng.uniform(-0.2, 0.12), 1.0])
        rope(NECK, (0.65, 0.7, 0, 0.44 * g), (head[2] - 0.1, head[1] - 0.2, 0, 0.36))
        base = (-1.2, 0.35)
    elif pose == "loaf":
        rope(TORSO, (-0.6, 0.5, 0, 0.52 * g), (0.0, 0.52, 0, 0.54 * g), (0.5, 0.55, 0, 0.5 * g))
        for side in (-1, 1):
            rope(
                LEG, (0.55, 0.35, 0.25 * side, 0.28 * g), (0.85, 0.15, 0.24 * side, thin), (0.98, 0.1, 0.1 * side, thin)
            )
            rope(
                LEG,
                (-0.45, 0.4, 0.35 * side * g, 0.4 * g),
                (-0.1, 0.2, 0.5 * side * g, 0.2),
                (0.1, 0.1, 0.5 * side * g, thin),
            )
        head = np.array([0.0, 1.2 + rng.uniform(-0.1, 0.1), 0.75])
        rope(NECK, (0.45, 0.7, 0, 0.44 * g), (head[2] - 0.1, head[1] - 0.2, 0, 0.38))
        base = (-1.05, 0.25)
    else:  # curled up
        ring = [
            (-0.55 * math.cos(a) * 1.1, 0.42, 0.6 * math.sin(a) - 0.1, 0.46 * g) for a in (-1.2, -0.4, 0.5, 1.4, 2.2)
        ]
        rope(TORSO, *ring)
        for z in (0.0, 0.25):
            rope(LEG, (0.3, 0.25, 0.2 + z, 0.2), (0.55, 0.15, 0.45 + z, thin), (0.3, 0.1, 0.62 + z, thin))
        head = np.array([0.55, 0.68, 0.55])
        rope(NECK, (0.35, 0.5, 0.3, 0.4 * g), (0.5, 0.6, 0.45, 0.36))
        base = (-0.5, 0.2)
    bushy = breed.tail == "bushy"
    r = 0.1 + 0.03 * breed.hair
    thick = (r, r * (2.0 if bushy else 1.0), r * (1.7 if bushy else 0.9), r * 0.55)
    f, u = base
    on_its_feet = pose in ("stand", "walk")
    up = rng.uniform(-0.5, 0.9) if on_its_feet else 0.0
    if breed.tail == "short":
        rope(TAIL, (f, u, 0, 0.13), (f - 0.16, u + 0.12, 0.05 * tail_side, 0.1))
    elif breed.tail == "curl":
        top = u + 0.55
        rope(
            TAIL,
            (f + 0.05, u, 0, thick[0]),
            (f - 0.25, u + 0.3, wag * 0.3, thick[1]),
            (f - 0.05, top, wag * 0.5, thick[1]),
            (f + 0.25, top - 0.1, wag * 0.6, thick[2]),
            (f + 0.2, top - 0.35, wag * 0.6, thick[3]),
        )
    elif on_its_feet:
        rope(
            TAIL,
            (f + 0.05, u, 0, thick[0]),
            (f - 0.35, u + 0.35 * up, wag * 0.4, thick[1]),
            (f - 0.6, u + 0.9 * up, wag, thick[2]),
            (f - 0.7 + 0.3 * wag, u + 1.25 * up, wag, thick[3]),
        )
    else:  # along the ground and round to the feet
        rope(
            TAIL,
            (f + 0.1, u, 0, thick[0]),
            (f - 0.2, 0.12, 0.35 * tail_side, thick[1]),
            (f + 0.2, 0.12, 0.75 * tail_side, thick[2]),
            (f + 0.75, 0.12, 0.85 * tail_side, thick[3]),
        )
    return head
