"""Small generated translations of English sentences, in which an image resolves ambiguous words."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from polymodal.datasets.planted import Columns

#: German and Russian words by the English word; all nouns are masculine in both, so no other word has to agree.
_ADJECTIVES = {
    "small": ("kleine", "маленький"),
    "old": ("alte", "старый"),
    "black": ("schwarze", "чёрный"),
    "white": ("weiße", "белый"),
}
_NOUNS = {
    "dog": ("Hund", "пёс"),
    "lion": ("Löwe", "лев"),
    "elephant": ("Elefant", "слон"),
    "bear": ("Bär", "медведь"),
    "wolf": ("Wolf", "волк"),
    "table": ("Tisch", "стол"),
    "hammer": ("Hammer", "молоток"),
}
#: Words with two meanings: an animal, and a thing.
_AMBIGUOUS = {
    "crane": (("Kranich", "журавль"), ("Kran", "кран")),
    "seal": (("Seehund", "тюлень"), ("Stempel", "штамп")),
}
_PLACES = {
    "here": ("hier", "здесь"),
    "at home": ("zu Hause", "дома"),
    "in the garden": ("im Garten", "в саду"),
    "in the street": ("auf der Straße", "на улице"),
}
LANGUAGES = ("German", "Russian")


def make_translations(rows: int = 100, seed: int = 0, ambiguous_ratio: float = 0.5) -> Columns:
    """English sentences with a German or Russian translation, and an image that resolves ambiguous words.

    ambiguous_ratio: fraction of sentences about a crane or a seal, which is an animal in half of them; without the
        image, no model can translate more than half of these correctly

    Columns: `source`, such as "The old crane is here."; `language` ("German" or "Russian"); `image`, a PIL image of 64
    x 64 pixels, a green circle for an animal and a blue square for a thing; `translation`.

        >>> list(make_translations(1))
        ['source', 'language', 'image', 'translation']
    """
    generator = np.random.default_rng(seed)
    columns: Columns = {"source": [], "language": [], "image": [], "translation": []}
    for _ in range(rows):
        to = int(generator.integers(2))
        adjective, place = (str(generator.choice(list(words))) for words in (_ADJECTIVES, _PLACES))
        if generator.random() < ambiguous_ratio:
            noun, meaning = str(generator.choice(list(_AMBIGUOUS))), int(generator.integers(2))
            meant = _AMBIGUOUS[noun][meaning][to]
        else:
            noun = str(generator.choice(list(_NOUNS)))
            meaning, meant = int(noun in ("table", "hammer")), _NOUNS[noun][to]
        translation = _sentence(to, _ADJECTIVES[adjective][to], meant, _PLACES[place][to])
        columns["source"].append(f"The {adjective} {noun} is {place}.")
        columns["language"].append(LANGUAGES[to])
        columns["image"].append(_image(meaning, generator))
        columns["translation"].append(translation)
    return columns


def _sentence(to: int, adjective: str, noun: str, place: str) -> str:
    if LANGUAGES[to] == "German":
        return f"Der {adjective} {noun} ist {place}."
    return f"{adjective.capitalize()} {noun} {place}."


def _image(meaning: int, generator: np.random.Generator) -> Image.Image:
    image = Image.fromarray(generator.integers(170, 256, (64, 64, 3), dtype=np.uint8))
    side = int(generator.integers(20, 36))
    left, top = generator.integers(0, 64 - side, 2).tolist()
    draw = ImageDraw.Draw(image)
    figure = draw.rectangle if meaning else draw.ellipse
    figure((left, top, left + side, top + side), fill=(40, 60, 120) if meaning else (40, 120, 60))
    return image
