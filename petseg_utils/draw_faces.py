"""Eyes, noses, mouths and whiskers of the drawn animals: flat shapes held against the head."""

import math

import numpy as np
from PIL import Image, ImageDraw

from petseg_utils.draw_bodies import Array
from petseg_utils.draw_breeds import EAR, HEAD, MUZZLE, NOSE
from petseg_utils.draw_fur import project

FINE = 2  # the face is drawn this many times finer than the picture
CAT_EYES = ((158, 170, 92), (206, 164, 70), (146, 162, 122), (132, 164, 186), (188, 170, 92), (182, 124, 58))
DOG_EYES = ((84, 50, 24), (64, 40, 24), (108, 66, 28), (52, 34, 24), (150, 108, 56), (130, 156, 180))
CAT_NOSES = ((214, 128, 124), (150, 84, 78), (60, 44, 44))
DOG_NOSES = ((20, 17, 19), (50, 37, 33))


def on_head(
    face: dict, points: list, at: tuple, view: tuple, frame: Array, centre: Array, radius: float
) -> tuple[Array, Array]:
    """Flat outlines held against the skull at `at` (right, up): their pixels ``(N, 3)`` and the outward normal."""
    a, b, c = face["axes"]
    x, y = at
    z = c * math.sqrt(max(0.05, 1 - (x / a) ** 2 - (y / b) ** 2))
    normal = np.array([x / a**2, y / b**2, z / c**2])
    normal /= math.sqrt(float((normal**2).sum()))
    right = np.array([normal[2], 0.0, -normal[0]])
    right /= math.sqrt(float((right**2).sum()))
    up = np.cross(normal, right)
    local = np.array([(x, y, z + 0.02) + p * right + q * up for p, q in points])
    space = centre + radius * (frame * local[:, None, :]).sum(-1)
    return project(space, view), (frame * normal).sum(1)


def ellipse(
    width: float, height: float, x: float = 0.0, y: float = 0.0, tilt: float = 0.0, corner: float = 0.0
) -> list:
    """Outline of an ellipse, pinched to corners at its ends if `corner` > 0."""
    points = []
    for k in range(28):
        t = math.tau * k / 28
        p, q = width * math.cos(t), height * math.sin(t) * (1 - corner * math.cos(t) ** 2)
        points.append((x + p * math.cos(tilt) - q * math.sin(tilt), y + p * math.sin(tilt) + q * math.cos(tilt)))
    return points


def draw_face(
    seen: dict, face: dict, look: dict, view: tuple, rng: np.random.Generator
) -> tuple[Image.Image, Image.Image]:
    """Two transparent layers of the picture's size: what lies on the head, and the whiskers, which stick out of it."""
    frame, centre, radius = look["head"]
    height, width = seen["index"].shape
    px = radius * seen["scale"]
    middle = project(centre[None], view)[0]
    reach = round(1.9 * px)
    # Only the part of the picture around the head is drawn.
    left, top = (max(0, round(middle[k]) - reach) for k in (0, 1))
    right, bottom = (
        max(first + 1, min(last, round(middle[k]) + reach)) for k, first, last in ((0, left, width), (1, top, height))
    )
    layers = [Image.new("RGBA", ((right - left) * FINE, (bottom - top) * FINE)) for _ in range(2)]
    skin, air = (ImageDraw.Draw(layer) for layer in layers)
    turned = view[0] / seen["scale"]

    def place(points: Array) -> list:
        return [((x - left + 0.5) * FINE, (y - top + 0.5) * FINE) for x, y, _ in points.tolist()]

    def spots(points: list) -> Array:
        return project(centre + radius * (frame * np.array(points, dtype=np.float64)[:, None, :]).sum(-1), view)

    def hidden(point: Array) -> bool:
        x, y = round(float(point[0])), round(float(point[1]))
        return not (0 <= x < width and 0 <= y < height) or seen["near"][y, x] > point[2] + 0.25 * px

    cat = face["cat"]
    dark = tuple(int(0.35 * c) for c in look["palette"][1])
    for side in (-1, 1):
        ear = face.get(f"ear{side}")
        if ear and (turned[2] * frame[:, 2]).sum() > 0.1:
            (rx, ry, rz), (mx, my, mz), (tx, ty, tz) = ear
            inner = spots([(rx - 0.2, ry + 0.12, rz + 0.2), (mx - 0.15, my, mz + 0.12), (tx, ty - 0.12, tz + 0.05),
                           (mx + 0.15, my, mz + 0.12), (rx + 0.2, ry + 0.12, rz + 0.2)])  # fmt: skip
            skin.polygon(place(inner), fill=(*look["ear"], 200))
    eye_x, eye_y = face["eyes"]
    for side in (-1, 1):
        at = (side * eye_x, eye_y)
        tilt = side * (0.22 if cat else 0.08)

        def part(points: list, fill: tuple, at: tuple = at) -> None:
            pixels, _ = on_head(face, points, at, view, frame, centre, radius)
            skin.polygon(place(pixels), fill=fill)

        spot, normal = on_head(face, [(0, 0)], at, view, frame, centre, radius)
        if (turned[2] * normal).sum() < 0.12 or hidden(spot[0]):
            continue
        if look["asleep"]:
            arc, _ = on_head(
                face,
                [(p, 0.09 * (p / 0.2) ** 2 - 0.05) for p in np.linspace(-0.2, 0.2, 9)],
                at,
                view,
                frame,
                centre,
                radius,
            )
            skin.line(place(arc), fill=(24, 18, 18, 255), width=max(2, round(0.07 * px * FINE)), joint="curve")
            continue
        w, h = (0.28, 0.235) if cat else (0.165, 0.16)
        part(ellipse(w * 1.22, h * 1.25, tilt=tilt, corner=0.3 if cat else 0.15), (*dark, 255))
        if not cat:
            part(ellipse(w * 1.02, h * 0.95, tilt=tilt, corner=0.3), (226, 220, 212, 255))
        part(
            ellipse(w * (0.98 if cat else 0.93), h * (0.98 if cat else 1.02), tilt=tilt, corner=0.2 if cat else 0.0),
            (*look["iris"], 255),
        )
        pupil = (w * look["pupil"], h * 0.9) if cat else (w * 0.5, w * 0.5)
        part(ellipse(*pupil), (20, 16, 19, 255))
        lid = ellipse(w * 1.1, h * 1.1, tilt=tilt, corner=0.3)
        part([(p, q) for p, q in lid if q > 0.45 * h], (*dark, 190))
        part(ellipse(w * 0.2, w * 0.2, -0.3 * w, 0.3 * h), (255, 255, 255, 240))
        part(ellipse(w * 0.1, w * 0.1, 0.3 * w, -0.4 * h), (255, 255, 255, 150))
    stroke = max(1, round(0.05 * px * FINE))
    nose, mouth = face["nose"], face["mouth"]
    front = (turned[2] * frame[:, 2]).sum()
    if front > 0.1:
        x, y, z = mouth
        line = [(0, nose[1] - 0.08, nose[2] - 0.02), (0, y + 0.02, z)]
        skin.line(place(spots(line)), fill=(*dark, 230), width=stroke)
        bend = 0.2 if cat else 0.3
        for side in (-1, 1):
            arc = [
                (side * bend * t, y - 0.1 * math.sin(math.pi * t) + 0.04 * t, z - 0.12 * t * t)
                for t in np.linspace(0, 1, 7).tolist()
            ]
            skin.line(place(spots(arc)), fill=(*dark, 230), width=stroke, joint="curve")
            if not cat:
                hole = spots([(nose[0] + side * 0.1 + p, nose[1] - 0.02 + q, nose[2]) for p, q in ellipse(0.05, 0.035)])
                skin.polygon(place(hole), fill=(6, 5, 6, 255))
    for side in (-1, 1):
        root = np.array([side * 0.3, -0.38, face["snout"] - (0.02 if cat else 0.35)])
        outward = (turned[2] * (frame * np.array([side * 0.75, 0, 0.65])).sum(1)).sum()
        for k in range(4 if cat else 0):
            jig = rng.normal(0, 0.04, 2)
            if outward < -0.15:
                continue
            rise = (0.22 - 0.16 * k + jig[0]) if cat else -0.12 * k
            far = (1.0 + jig[1]) if cat else 0.3
            hair = [
                root + np.array([side * far * t, 0.06 * (1 - k) + rise * t - 0.22 * t * t, -0.25 * t])
                for t in np.linspace(0, 1, 8).tolist()
            ]
            curve = spots(hair)
            thick = np.linspace(0.04, 0.016, 8) * px
            low, high = curve.copy(), curve.copy()
            low[:, 1] -= thick
            high[:, 1] += thick
            air.polygon(place(low) + place(high[::-1]), fill=(*look["whisker"], 225 if cat else 130))
        for k in range(3):
            dot = spots([root + np.array([side * 0.02 * (k - 4), 0.07 * (1 - k), 0.02])])[0]
            if outward > 0.1 and not hidden(dot):
                x, y = place(dot[None])[0]
                r = 0.028 * px * FINE
                skin.ellipse((x - r, y - r, x + r, y + r), fill=(*dark, 170))
    result = []
    for layer in layers:
        small = layer.resize((right - left, bottom - top), Image.Resampling.BOX)
        sheet = Image.new("RGBA", (width, height))
        sheet.paste(small, (left, top))
        result.append(sheet)
    # Nothing of the face may show through what stands in front of it.
    head = (seen["index"] >= 0).astype(np.uint8) * 255
    head[seen["rows"], seen["columns"]] = np.where(np.isin(seen["part"], (HEAD, MUZZLE, EAR, NOSE)), 255, 0)
    alpha = np.minimum(np.asarray(result[0].getchannel("A")), head)
    result[0].putalpha(Image.fromarray(alpha))
    return result[0], result[1]
