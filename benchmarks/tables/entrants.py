"""The contestants by name: what they run, on which sets, and in which environment."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass

from benchmarks.environments import MissingEnvironment, python_of
from benchmarks.tables.dataset import Dataset

TABULAR = frozenset({"number", "category", "date", "text"})


@dataclass(frozen=True)
class Contestant:
    """A program of `contestants/`.

    group: `ours`, `script` (the best of them is the reference of a set), `library` or `baseline`
    kinds: the kinds of sets that it reads
    needs: it reads a set that has an input of one of these types; empty: any
    skips: it does not run on sets of these names; each has a reason in the comment of its line
    environment: the virtual environment of its library (`benchmarks.environments`); None: this one
    settings: recipe keys, for ours
    """

    name: str
    program: str
    group: str
    kinds: tuple[str, ...] = ()
    needs: frozenset[str] = frozenset()
    skips: tuple[str, ...] = ()
    environment: str | None = None
    settings: tuple[str, ...] = ()

    def reads(self, dataset: Dataset, types: set[str]) -> bool:
        """Whether it runs on a set with inputs of these types."""
        fits = not self.kinds or dataset.kind in self.kinds
        base = re.split("[+:]", dataset.name)[0]
        return fits and (not self.needs or bool(self.needs & types)) and base not in self.skips

    def python(self) -> str:
        """The interpreter.

        Raises:
            MissingEnvironment: the environment of the library does not exist.
        """
        return sys.executable if self.environment is None else str(python_of(self.environment))

    @property
    def is_ready(self) -> bool:
        try:
            self.python()
        except MissingEnvironment:
            return False
        return True


def ours(name: str, *settings: str) -> Contestant:
    """Polymodal with these recipe keys (`a.b=c`)."""
    return Contestant(name, "ours", "ours", settings=settings)


def _script(name: str, program: str, *kinds: str, **others: object) -> Contestant:
    return Contestant(name, f"scripts.{program}", "script", kinds, **others)  # type: ignore[arg-type]


#: `default` is `fit` without a word about effort; the others are its words.
OURS = (
    ours("default"),
    *(ours(word, f"quality={word}") for word in ("fast", "balanced", "best")),
)
SCRIPTS = (
    _script("linear model", "linear", "numbers"),
    _script("boosted trees", "trees", "numbers"),
    _script("support vectors", "vectors", "numbers"),
    _script("tf-idf", "tfidf", "text"),
    # MiniLM reads English only
    _script("frozen sentences", "sentences", "text", skips=("chinese_reviews",)),
    _script("frozen pictures", "pictures", "image"),
    _script("pixels", "pixels", "image"),
    _script("log-mel", "sounds", "sound"),
    _script("minirocket", "minirocket", "series", environment="aeon"),
    _script("joint linear", "joint", "mixed"),
    _script("average", "average", "mixed"),
    _script("stacked", "stacked", "mixed", needs=frozenset({"number", "category", "date"})),
)
LIBRARIES = (
    Contestant(
        "skrub", "scripts.skrub_pipeline", "library", ("numbers", "text", "mixed"), TABULAR, environment="skrub"
    ),
    Contestant(
        "AutoGluon",
        "scripts.autogluon_tabular",
        "library",
        ("numbers", "text", "mixed"),
        TABULAR,
        environment="autogluon",
    ),
)
BASELINES = (Contestant("constant", "scripts.constant", "baseline"),)
CONTESTANTS = {one.name: one for one in (*OURS, *SCRIPTS, *LIBRARIES, *BASELINES)}
#: The contestants of a run that names none: all but ours, which are named one by one.
REFERENCES = tuple(one.name for one in (*SCRIPTS, *LIBRARIES, *BASELINES))


def group_of(name: str) -> str:
    """The group of a contestant; one that the catalog does not have is ours."""
    return CONTESTANTS[name].group if name in CONTESTANTS else "ours"
