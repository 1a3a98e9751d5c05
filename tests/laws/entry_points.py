"""The public functions and methods, each with a call that succeeds, for laws over all of them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import polymodal
from polymodal.applications.compression import compress
from polymodal.applications.curation.curate import CurationOptions, curate
from polymodal.applications.search import Index
from polymodal.data.table.cell_errors import CellErrors
from polymodal.datasets.planted import make_planted_table

#: Public names outside of the root of the package: the documentation imports them.
MORE = {"Index": Index, "compress": compress, "curate": curate}

#: Methods that other packages call inside of an output directory, whose folder they have made and locked.
INTERNAL = {"Model.write_files"}

#: Classes with the interface of scikit-learn, whose contract is that bad arguments are a ValueError or TypeError.
ESTIMATORS = ("PolymodalClassifier", "PolymodalRegressor")

QUICK = {
    "hidden_size": 8,
    "training.epochs": 1,
    "training.num_threads": 1,
    "training.precision": "fp32",
    "evaluation.bootstrap_samples": 0,
    "evaluation.unimodal_scores": "none",
}


@dataclass(frozen=True)
class EntryPoint:
    """A public callable and the arguments of a call that succeeds.

    cost: how much time a call takes, so that a law can make fewer calls of dear ones
    """

    call: Callable[..., Any]
    arguments: dict[str, Any]
    cost: int = 1

    @property
    def parameters(self) -> list[str]:
        kinds = inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL
        return [p.name for p in inspect.signature(self.call).parameters.values() if p.kind not in kinds]


def public_callables() -> set[str]:
    """The names of all public functions, and of the constructor and the public methods of all public classes."""
    found = set()
    public = {name: getattr(polymodal, name) for name in polymodal.__all__ if name != "__version__"} | MORE
    for name, value in public.items():
        if not inspect.isclass(value):
            found.add(name)
            continue
        found.add(name)
        for method, function in inspect.getmembers(value, callable):
            own = str(getattr(function, "__module__", "")).startswith("polymodal.")
            if not method.startswith("_") and own and not inspect.isclass(function):
                found.add(f"{name}.{method}")
    return found - INTERNAL


def rows(count: int = 24) -> dict[str, list[Any]]:
    """Sound rows: a number, a category, a text, a class, a price, and a caption."""
    columns = make_planted_table(count, 0)
    maker, grade = columns["maker"], columns["grade"]
    columns["note"] = [f"a {kind} thing from the {place}" for kind, place in zip(grade, maker, strict=True)]
    return columns


class World:
    """Tiny trained models, one of each kind, with their folders."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rows = folder, rows()
        columns = {name: self.rows[name] for name in ("length", "maker", "note", "grade", "price")}
        inputs = {"inputs": {"length": "number", "maker": "category", "note": "text"}}
        self.table, self.file = columns, folder / "rows.jsonl"
        lines = [json.dumps(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]
        self.file.write_text("\n".join(lines))
        self.classifier = polymodal.fit(columns, "grade", recipe=inputs, settings=QUICK, out=folder / "classifier")
        self.regressor = polymodal.fit(columns, "price", recipe=inputs, settings=QUICK)
        self.writer = polymodal.fit(
            columns,
            recipe={"inputs": {"maker": "category"}, "outputs": {"note": {"task": "text_generation"}}},
            settings=QUICK,
        )
        blank = np.zeros((32, 32, 3), np.uint8)
        self.painter = polymodal.fit(
            {**columns, "photo": [blank + row for row in range(24)]},
            recipe={
                "inputs": {"maker": "category"},
                "outputs": {"photo": {"task": {"name": "image_generation", "autoencoder_steps": 1, "patch_size": 16}}},
            },
            settings=QUICK,
        )
        self.aligned = polymodal.pretrain(
            {"note": columns["note"], "maker": columns["maker"]}, "contrastive", settings=QUICK, out=folder / "aligned"
        )
        self.numbers = {"length": columns["length"], "price": columns["price"]}
        linear = {"members": ["linear"], "evaluation.bootstrap_samples": 0}
        self.tabular = polymodal.fit(self.numbers, "price", settings=linear)
        self.ensemble = polymodal.ensemble([self.classifier, self.classifier])
        self.ensemble.save(folder / "ensemble")
        self.few_shot = polymodal.FewShot.fit(self.classifier, columns, "grade")
        self.few_shot.save(folder / "head")
        self.zero_shot = polymodal.ZeroShot(self.aligned, ["large", "small"], target="grade")
        self.index = Index.build(folder / "index", np.eye(4), {"color": ["red", "green", "red", "blue"]})
        X = np.stack([np.asarray(columns["length"], float), np.arange(24.0)], 1)
        self.X, self.y = X, np.array(columns["grade"])
        quick = {name: value for name, value in QUICK.items() if not name.startswith("evaluation")}
        self.estimators = {
            "PolymodalClassifier": polymodal.PolymodalClassifier(settings=quick).fit(X, self.y),
            "PolymodalRegressor": polymodal.PolymodalRegressor(settings=quick).fit(X, X[:, 0]),
        }

    def entry_points(self) -> dict[str, EntryPoint]:
        data = {"data": self.table}
        train = {**data, "target": "grade", "settings": QUICK}
        out = str(self.folder / "written")
        found = {
            "fit": EntryPoint(polymodal.fit, {**train, "out": None}, cost=20),
            "pretrain": EntryPoint(
                polymodal.pretrain, {**data, "objectives": "contrastive", "settings": QUICK}, cost=20
            ),
            "cross_validate": EntryPoint(polymodal.cross_validate, {**train, "folds": 2}, cost=40),
            "multitask_gain": EntryPoint(polymodal.multitask_gain, {**train, "target": ["grade", "price"]}, cost=40),
            "tune": EntryPoint(polymodal.tune, {**train, "out": out, "trials": 1, "time_limit": None}, cost=400),
            "tune_worker": EntryPoint(
                polymodal.tune_worker, {**data, "search": out, "storage": "no database"}, cost=20
            ),
            "compare": EntryPoint(polymodal.compare, {"a": self.classifier, "b": self.classifier, **data}, cost=3),
            "suggest": EntryPoint(
                polymodal.suggest, {"model": self.classifier, "data": {**self.table, "grade": [None] * 24}}, cost=3
            ),
            "predict_shards": EntryPoint(
                polymodal.predict_shards,
                {"model": self.folder / "classifier", "data": self.file, "out": self.folder / "shards"},
                cost=5,
            ),
            "prepare": EntryPoint(
                polymodal.prepare,
                {"data": self.file, "target": "grade", "settings": QUICK, "out": self.folder / "store"},
                cost=20,
            ),
            "load": EntryPoint(polymodal.load, {"folder": self.folder / "classifier"}, cost=5),
            "ensemble": EntryPoint(polymodal.ensemble, {"models": [self.classifier, self.classifier]}, cost=3),
            "Ensemble": EntryPoint(polymodal.Ensemble, {"members": [], "combiner": self.ensemble.combiner}),
            "Model": EntryPoint(polymodal.Model, {"recipe": 1, "preparation": 1, "network": 1}),
            "Recipe": EntryPoint(polymodal.Recipe, {"seed": 1}),
            "compress": EntryPoint(compress, {"model": self.classifier, **data, "out": None}, cost=60),
            "curate": EntryPoint(curate, {"model": self.classifier, **data, "options": CurationOptions()}, cost=10),
            "FewShot": EntryPoint(
                polymodal.FewShot,
                {"model": self.classifier, "head": self.few_shot.head, "task": self.few_shot.task}
                | {"input": None, "folder": None},
            ),
            "ZeroShot": EntryPoint(polymodal.ZeroShot, {"model": self.aligned, "classes": ["large", "small"]}, cost=3),
            "PolymodalClassifier": EntryPoint(polymodal.PolymodalClassifier, {}),
            "PolymodalRegressor": EntryPoint(polymodal.PolymodalRegressor, {}),
            "Index": EntryPoint(Index, {"folder": self.index.folder, "manifest": self.index.manifest}),
        }
        methods: dict[str, dict[str, EntryPoint]] = {
            "Model": self._model_methods(),
            "Ensemble": self._predicting(self.ensemble),
            "FewShot": self._predicting(self.few_shot),
            "ZeroShot": self._predicting(self.zero_shot),
            "Index": self._index_methods(),
            "Recipe": self._recipe_methods(),
        }
        methods["Ensemble"] |= {
            "load": EntryPoint(polymodal.Ensemble.load, {"folder": self.folder / "ensemble"}, cost=5),
            "save": EntryPoint(self.ensemble.save, {"folder": self.folder / "saved-ensemble"}, cost=5),
            "combine": EntryPoint(self.ensemble.combine, {"each": [{"grade": np.full((1, 2), 0.5)}] * 2}),
        }
        methods["FewShot"] |= {
            "fit": EntryPoint(
                polymodal.FewShot.fit, {"model": self.classifier, "rows": self.table, "target": "grade"}, cost=3
            ),
            "load": EntryPoint(polymodal.FewShot.load, {"folder": self.folder / "head"}, cost=5),
            "save": EntryPoint(self.few_shot.save, {"folder": self.folder / "saved-head"}, cost=5),
        }
        methods["ZeroShot"] |= {
            "logits": EntryPoint(self.zero_shot.logits, {"vectors": self.zero_shot.class_embeddings}),
            "score": EntryPoint(
                self.zero_shot.score,
                {"probabilities": np.full((24, 2), 0.5), "table": self.classifier.open(self.table)},
            ),
        }
        for name, fitted in self.estimators.items():
            y = self.y if name == "PolymodalClassifier" else self.X[:, 0]
            methods[name] = {
                "fit": EntryPoint(fitted.fit, {"X": self.X, "y": y}, cost=20),
                "predict": EntryPoint(fitted.predict, {"X": self.X}),
            }
            if name == "PolymodalClassifier":
                methods[name]["predict_proba"] = EntryPoint(fitted.predict_proba, {"X": self.X})
        return found | {f"{owner}.{name}": one for owner, own in methods.items() for name, one in own.items()}

    def _predicting(self, model: Any) -> dict[str, EntryPoint]:
        data = {"data": self.table}
        return {
            "predict": EntryPoint(model.predict, data),
            "predict_proba": EntryPoint(model.predict_proba, data),
            "evaluate": EntryPoint(model.evaluate, data, cost=2),
            "open": EntryPoint(model.open, data),
            "stream": _drained(model.stream, {"table": model.open(self.table), "cell_errors": CellErrors()}),
        }

    def _model_methods(self) -> dict[str, EntryPoint]:
        model, data = self.classifier, {"data": self.table}
        one = {name: cells[:1] for name, cells in self.table.items()}
        return self._predicting(model) | {
            "robustness": EntryPoint(model.robustness, data, cost=10),
            "feature_importance": EntryPoint(model.feature_importance, data | {"num_repeats": 2}, cost=10),
            "predict": EntryPoint(model.predict, {**data, "coverage": 0.5, "score": "aps", "within": "all"}),
            "stream_answers": _drained(
                model.stream_answers, {"table": model.open(self.table), "cell_errors": CellErrors()}
            ),
            "risk_coverage": EntryPoint(model.risk_coverage, {**data, "output": "grade"}),
            "calibrate": EntryPoint(model.calibrate, data),
            "slices": EntryPoint(model.slices, {**data, "output": "grade", "columns": ["maker"]}, cost=2),
            "drift": EntryPoint(model.drift, {**data, "reference": self.table}, cost=4),
            "contributions": EntryPoint(model.contributions, {**data, "output": "grade"}, cost=3),
            "explain": EntryPoint(model.explain, {"data": one, "input": "note", "method": "occlusion"}, cost=5),
            "member_terms": EntryPoint(self.tabular.member_terms, {"data": self.numbers, "output": "price"}, cost=2),
            "counterfactuals": EntryPoint(model.counterfactuals, {**data, "output": "grade"}, cost=2),
            "nearest_rows": EntryPoint(model.nearest_rows, {**data, "reference": self.table, "count": 2}, cost=2),
            "leaderboard": EntryPoint(model.leaderboard, {"output": None}),
            "summary": EntryPoint(model.summary, {}),
            "embed": EntryPoint(model.embed, {**data, "input": "note", "dim": 4}),
            "generate": EntryPoint(self.writer.generate, {**data, "num_beams": 1}, cost=3),
            "stream_texts": _drained(
                self.writer.stream_texts, {"table": self.writer.open(one), "cell_errors": CellErrors()}
            ),
            "generate_images": EntryPoint(self.painter.generate_images, {**data, "temperature": 1.0}, cost=3),
            "stream_images": _drained(
                self.painter.stream_images, {"table": self.painter.open(one), "cell_errors": CellErrors()}
            ),
            "stream_tokens": _drained(self.writer.stream_tokens, {"row": one}),
            "transcribe": EntryPoint(self.writer.transcribe, {**data, "chunk_seconds": 3.0}),
            "open_columns": EntryPoint(model.open_columns, {**data, "root": None, "columns": ["note"]}),
            "save": EntryPoint(model.save, {"folder": self.folder / "saved"}, cost=5),
            "load": EntryPoint(polymodal.Model.load, {"folder": self.folder / "classifier"}, cost=5),
        }

    def _index_methods(self) -> dict[str, EntryPoint]:
        index, one = self.index, np.ones(4)
        return {
            "build": EntryPoint(
                Index.build, {"folder": self.folder / "built", "vectors": np.eye(3), "overwrite": True}, cost=2
            ),
            "open": EntryPoint(Index.open, {"folder": self.folder / "index"}),
            "search": EntryPoint(index.search, {"queries": one, "top_k": 2, "filter": "color == 'red'"}),
            "vectors": EntryPoint(index.vectors, {"ids": [0]}),
            "take": EntryPoint(index.take, {"ids": [0]}),
            "recall": EntryPoint(index.recall, {"queries": one[None], "num_queries": 2, "top_k": 1}),
            "add": EntryPoint(index.add, {"vectors": np.eye(4)[:1], "columns": {"color": ["red"]}}),
            "delete": EntryPoint(index.delete, {"filter": "color == 'none'"}),
            "compact": EntryPoint(index.compact, {}),
        }

    def _recipe_methods(self) -> dict[str, EntryPoint]:
        recipe = self.classifier.recipe
        arguments: dict[str, dict[str, Any]] = {
            "read": {"source": {"seed": 1}, "settings": ["seed=2"]},
            "with_inputs": {"names": ["note"]},
        }
        names = [name.partition(".")[2] for name in public_callables() if name.startswith("Recipe.")]
        return {name: EntryPoint(getattr(recipe, name), arguments.get(name, {})) for name in names}


def _drained(call: Callable[..., Any], arguments: dict[str, Any]) -> EntryPoint:
    """An iterator, read to its end."""

    def read(**given: Any) -> list[Any]:
        return list(call(**given))

    read.__signature__ = inspect.signature(call)  # type: ignore[attr-defined]
    return EntryPoint(read, arguments)
