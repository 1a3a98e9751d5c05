"""Generated tables of dates, short texts, counts and categories, with a target that depends on all of them.

Each value is a sum of known parts and normal noise, so the best possible R2 is known: `1 - noise variance / variance`.
The two tables have different columns, words and parts: one chooses defaults, the other one is for the final look.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np

from benchmarks.tables.dataset import Columns

COUNTRIES = ("AT", "BE", "CH", "DE", "ES", "FR", "IT", "NL", "PL", "SE")
CARRIERS = ("blue line", "parcel one", "quick van", "rail post")
NOTES = {
    "please deliver to the neighbors": 0.5,
    "a gift, wrap it nicely": 1.5,
    "urgent, needed for a birthday": -2.0,
    "fragile, handle with care": 1.0,
    "leave it at the back door": 0.0,
    "call before you come": 0.8,
    "combine with my other order": 3.0,
}
POLITE = ("thanks", "many thanks", "thank you so much", "hello", "regards", "see you", "as always")


def _moments(rng: np.random.Generator, rows: int, first: datetime, days: int) -> list[datetime]:
    seconds = rng.integers(0, days * 86400, rows)
    return [first + timedelta(seconds=int(one)) for one in seconds]


def _missing(rng: np.random.Generator, cells: list, ratio: float) -> list:  # type: ignore[type-arg]
    return [None if gone else cell for cell, gone in zip(cells, rng.random(len(cells)) < ratio, strict=True)]


def orders(rows: int, seed: int = 7) -> Columns:
    """Orders of a shop: days until delivery, by the hour, the weekday and the season of the order, the wishes in its
    note, the number and weight of items, and the carrier in each country. The customer's code has no effect."""
    rng = np.random.default_rng(seed)
    ordered = _moments(rng, rows, datetime(2023, 1, 2), 700)
    wishes = [rng.choice(list(NOTES), size=rng.integers(0, 3), replace=False) for _ in range(rows)]
    notes = [", ".join(rng.permutation([*wish, *rng.choice(POLITE, size=rng.integers(0, 2))])) for wish in wishes]
    country, carrier = rng.integers(len(COUNTRIES), size=rows), rng.integers(len(CARRIERS), size=rows)
    items, weight = rng.poisson(3, rows) + 1, rng.lognormal(0, 0.8, rows)
    lanes = rng.normal(0, 1.2, (len(COUNTRIES), len(CARRIERS)))
    weekend = np.array([{4: 1.0, 5: 2.5, 6: 1.5}.get(one.weekday(), 0.0) for one in ordered])
    evening = np.array([1.0 if one.hour >= 16 else 0.0 for one in ordered])
    season = np.array([3.0 if one.month == 12 else 1.0 if one.month in (7, 8) else 0.0 for one in ordered])
    words = np.array([sum(NOTES[str(one)] for one in wish) for wish in wishes])
    days = 6 + weekend + evening + season + words + lanes[country, carrier] + 0.3 * items + np.log1p(weight)
    return {
        "ordered": [one.strftime("%Y-%m-%d %H:%M:%S") for one in ordered],
        "note": _missing(rng, [note or None for note in notes], 0.03),
        "items": items.tolist(),
        "weight_kg": _missing(rng, np.round(weight, 3).tolist(), 0.05),
        "country": [COUNTRIES[one] for one in country],
        "carrier": _missing(rng, [CARRIERS[one] for one in carrier], 0.05),
        "customer": [f"C{one:05}" for one in rng.integers(0, 3000, rows)],
        "days": np.round(days + rng.normal(0, 0.5, rows), 2).tolist(),
    }


DEVICES = ("phone", "laptop", "tablet", "watch", "printer", "camera")
SHOPS = ("north", "harbor", "station", "old town", "airport")
SYMPTOMS = {
    "screen cracked": 2.0,
    "does not charge": 3.0,
    "battery empty after an hour": 1.5,
    "fell into water": 6.0,
    "makes a strange noise": 4.0,
    "buttons stuck": 1.0,
    "very slow since the update": 2.5,
    "no signal": 3.5,
}
MANNERS = ("customer says", "came in today", "second visit", "under warranty", "please hurry", "seen by a colleague")


def repairs(rows: int, seed: int = 3) -> Columns:
    """Repairs in workshops: working hours, by the symptoms in the description, the age of the device and of the
    backlog (weekday and trend), the number of parts, and the device in each shop."""
    rng = np.random.default_rng(seed)
    received = _moments(rng, rows, datetime(2021, 3, 1), 900)
    found = [rng.choice(list(SYMPTOMS), size=rng.integers(1, 4), replace=False) for _ in range(rows)]
    texts = ["; ".join(rng.permutation([*one, *rng.choice(MANNERS, size=rng.integers(0, 3))])) for one in found]
    device, shop = rng.integers(len(DEVICES), size=rows), rng.integers(len(SHOPS), size=rows)
    parts, age = rng.poisson(2, rows), rng.gamma(2, 1.5, rows)
    skill = rng.normal(0, 1, (len(DEVICES), len(SHOPS)))
    monday = np.array([2.0 if one.weekday() == 0 else 0.0 for one in received])
    trend = np.array([(one - datetime(2021, 3, 1)).days / 300 for one in received])
    words = np.array([sum(SYMPTOMS[str(one)] for one in symptoms) for symptoms in found])
    hours = 2 + words + monday + trend + skill[device, shop] + 0.8 * parts + 1.5 * np.sqrt(age)
    return {
        "received": [one.strftime("%d.%m.%Y %H:%M") for one in received],
        "description": texts,
        "device": _missing(rng, [DEVICES[one] for one in device], 0.04),
        "shop": [SHOPS[one] for one in shop],
        "parts": parts.tolist(),
        "age_years": _missing(rng, np.round(age, 2).tolist(), 0.1),
        "hours": np.round(hours + rng.normal(0, 0.7, rows), 2).tolist(),
    }
