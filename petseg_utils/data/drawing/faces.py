"""The faces of the drawn animals: eyes, noses, mouths and whiskers, as flat shapes placed against the head."""

import math

import numpy as np
from PIL import Image, ImageDraw

from petseg_utils.data.drawing.bodies import EAR, HEAD, MUZZLE, NOSE, Face, Frame
from petseg_utils.data.drawing.fur import Look
from petseg_utils.data.drawing.surfaces import Surface, View
from petseg_utils.data.drawing.textures import Array

FINE = 2  # the face is drawn at this multiple of its size, then shrunk
CAT_EYES = ((158, 170, 92), (206, 164, 70), (146, 162, 122), (132, 164, 186), (188, 170, 92), (182, 124, 58))
DOG_EYES = ((84, 50, 24), (64, 40, 24), (108, 66, 28), (52, 34, 24), (150, 108, 56), (130, 156, 180))
CAT_NOSES = ((214, 128, 124), (150, 84, 78), (60, 44, 44))
DOG_NOSES = ((20, 17, 19), (50, 37, 33))
EARS = ((222, 164, 150), (196, 132, 120))
WHISKERS = (250, 248, 244)


def on_skull(
    face: Face, head: Frame, at: tuple[float, float], points: list[tuple[float, float]]
) -> tuple[Array, Array]:
    """Place a flat shape against the skull.

    Parameters
    ----------
    at : tuple of float
        Where the shape touches the skull: sideways and up, in head radii.
    points : list of tuple
        Outline of the shape: sideways and up from there, in head radii.

    Returns
    -------
    space : ndarray
        ``(N, 3)``, the outline in space.
    normal : ndarray
        ``(3,)``, unit vector pointing out of the skull.
    """
    a, b, c = face.axes
    x, y = at
    z = c * math.sqrt(1 - (x / a) ** 2 - (y / b) ** 2)
    normal = np.array([x / a**2, y / b**2, z / c**2])
    normal /= math.sqrt(float((normal**2).sum()))
    right = np.array([normal[2], 0.0, -normal[0]])
    right /= math.sqrt(float((right**2).sum()))
    up = np.cross(normal, right)
    local = np.array([(x, y, z + 0.02) + p * right + q * up for p, q in points])
    return head.to_space(local), (head.axes * normal).sum(1)


def ellipse(
    width: float, height: float, x: float = 0.0, y: float = 0.0, tilt: float = 0.0, corner: float = 0.0
) -> list[tuple[float, float]]:
    """Return the outline of an ellipse with semi-axes `width` and `height`, with pinched ends if `corner` is 0..1."""
    points = []
    for k in range(28):
        t = math.tau * k / 28
        p, q = width * math.cos(t), height * math.sin(t) * (1 - corner * math.cos(t) ** 2)
        points.append((x + p * math.cos(tilt) - q * math.sin(tilt), y + p * math.sin(tilt) + q * math.cos(tilt)))
    return points


def draw_face(
    seen: Surface, face: Face, look: Look, view: View, rng: np.random.Generator
) -> tuple[Image.Image, Image.Image]:
    """Paint a face onto two transparent layers.

    Returns
    -------
    skin, air : Image
        RGBA, of the picture's size: what lies on the head, and the whiskers, which stand out from it.
    """
    head = look.head
    height, width = seen.covered.shape
    px = head.size * seen.scale
    middle = view.project(head.origin[None])[0]
    reach = round(1.9 * px)
    # Only the part of the picture around the head is drawn.
    left, top = (max(0, round(middle[k]) - reach) for k in (0, 1))
    right, bottom = (min(last, round(middle[k]) + reach) for k, last in ((0, width), (1, height)))
    layers = [Image.new("RGBA", ((right - left) * FINE, (bottom - top) * FINE)) for _ in range(2)]
    skin, air = (ImageDraw.Draw(layer) for layer in layers)
    to_viewer = view.matrix[2] / seen.scale

    def place(pixels: Array) -> list[tuple[float, float]]:
        """Convert pixels of the picture to pixels of the enlarged layers."""
        return [((x - left + 0.5) * FINE, (y - top + 0.5) * FINE) for x, y, _ in pixels.tolist()]

    def spots(points: list) -> Array:
        """Convert places on the head, in head radii, to pixels of the picture."""
        return view.project(head.to_space(np.array(points, dtype=np.float64)))

    def hidden(pixel: Array) -> bool:
        """Return whether a place on the head lies outside the picture or behind another part of the animal."""
        x, y = round(float(pixel[0])), round(float(pixel[1]))
        return not (0 <= x < width and 0 <= y < height) or seen.near[y, x] > pixel[2] + 0.25 * px

    cat = face.cat
    red, green, blue = (int(0.35 * c) for c in look.palette[1])
    for (rx, ry, rz), (mx, my, mz), (tx, ty, tz) in face.ears:
        inside = [
            (rx - 0.2, ry + 0.12, rz + 0.2),
            (mx - 0.15, my, mz + 0.12),
            (tx, ty - 0.12, tz + 0.05),
            (mx + 0.15, my, mz + 0.12),
            (rx + 0.2, ry + 0.12, rz + 0.2),
        ]
        skin.polygon(place(spots(inside)), fill=(*look.ear, 200))

    for side in (-1, 1):
        at = (side * face.eyes[0], face.eyes[1])
        tilt = side * (0.22 if cat else 0.08)

        def part(points: list[tuple[float, float]], fill: tuple[int, ...], at: tuple[float, float] = at) -> None:
            skin.polygon(place(view.project(on_skull(face, head, at, points)[0])), fill=fill)

        space, normal = on_skull(face, head, at, [(0, 0)])
        if (to_viewer * normal).sum() < 0.12 or hidden(view.project(space)[0]):
            continue
        if look.asleep:
            arc = [(p, 0.09 * (p / 0.2) ** 2 - 0.05) for p in np.linspace(-0.2, 0.2, 9)]
            pixels = view.project(on_skull(face, head, at, arc)[0])
            skin.line(place(pixels), fill=(24, 18, 18, 255), width=round(0.07 * px * FINE), joint="curve")
            continue
        if cat:
            w, h = 0.28, 0.235
            part(ellipse(w * 1.22, h * 1.25, tilt=tilt, corner=0.3), (red, green, blue, 255))
            part(ellipse(w * 0.98, h * 0.98, tilt=tilt, corner=0.2), (*look.iris, 255))
            part(ellipse(w * look.pupil, h * 0.9), (20, 16, 19, 255))
        else:
            w, h = 0.165, 0.16
            part(ellipse(w * 1.22, h * 1.25, tilt=tilt, corner=0.15), (red, green, blue, 255))
            part(ellipse(w * 1.02, h * 0.95, tilt=tilt, corner=0.3), (226, 220, 212, 255))
            part(ellipse(w * 0.93, h * 1.02, tilt=tilt), (*look.iris, 255))
            part(ellipse(w * 0.5, w * 0.5), (20, 16, 19, 255))
        lid = ellipse(w * 1.1, h * 1.1, tilt=tilt, corner=0.3)
        part([(p, q) for p, q in lid if q > 0.45 * h], (red, green, blue, 190))
        part(ellipse(w * 0.2, w * 0.2, -0.3 * w, 0.3 * h), (255, 255, 255, 240))
        part(ellipse(w * 0.1, w * 0.1, 0.3 * w, -0.4 * h), (255, 255, 255, 150))

    stroke = round(0.05 * px * FINE)
    nose, (_, y, z) = face.nose, face.mouth
    middle_line = spots([(0, nose[1] - 0.08, nose[2] - 0.02), (0, y + 0.02, z)])
    skin.line(place(middle_line), fill=(red, green, blue, 230), width=stroke)
    bend = 0.2 if cat else 0.3
    for side in (-1, 1):
        lips = [
            (side * bend * t, y - 0.1 * math.sin(math.pi * t) + 0.04 * t, z - 0.12 * t * t)
            for t in np.linspace(0, 1, 7).tolist()
        ]
        skin.line(place(spots(lips)), fill=(red, green, blue, 230), width=stroke, joint="curve")
        if not cat:
            nostril = [(nose[0] + side * 0.1 + p, nose[1] - 0.02 + q, nose[2]) for p, q in ellipse(0.05, 0.035)]
            skin.polygon(place(spots(nostril)), fill=(6, 5, 6, 255))

    for side in (-1, 1):
        root = np.array([side * 0.3, -0.38, face.pads])
        outward = (to_viewer * (head.axes * np.array([side * 0.75, 0, 0.65])).sum(1)).sum()
        if cat:
            for k in range(4):
                lift, stretch = rng.normal(0, 0.04, 2)
                if outward < -0.15:
                    continue
                rise, far = 0.22 - 0.16 * k + lift, 1.0 + stretch
                whisker = [
                    root + np.array([side * far * t, 0.06 * (1 - k) + rise * t - 0.22 * t * t, -0.25 * t])
                    for t in np.linspace(0, 1, 8).tolist()
                ]
                low = spots(whisker)
                high = low.copy()
                thick = np.linspace(0.04, 0.016, 8) * px
                low[:, 1] -= thick
                high[:, 1] += thick
                air.polygon(place(low) + place(high[::-1]), fill=(*WHISKERS, 225))
        for k in range(3):
            dot = spots([root + np.array([side * 0.02 * (k - 4), 0.07 * (1 - k), 0.02])])
            if outward > 0.1 and not hidden(dot[0]):
                x, y = place(dot)[0]
                r = 0.028 * px * FINE
                skin.ellipse((x - r, y - r, x + r, y + r), fill=(red, green, blue, 170))

    sheets = []
    for layer in layers:
        small = layer.resize((right - left, bottom - top), Image.Resampling.BOX)
        sheet = Image.new("RGBA", (width, height))
        sheet.paste(small, (left, top))
        sheets.append(sheet)
    # The face must not show through what stands in front of it.
    on_head = np.zeros((height, width), dtype=np.uint8)
    on_head[seen.rows, seen.columns] = np.where(np.isin(seen.part, (HEAD, MUZZLE, EAR, NOSE)), 255, 0)
    alpha = np.minimum(np.asarray(sheets[0].getchannel("A")), on_head)
    sheets[0].putalpha(Image.fromarray(alpha))
    return sheets[0], sheets[1]
