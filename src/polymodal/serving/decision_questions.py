"""Questions about a row, answered from the class probabilities of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from polymodal.core.errors import did_you_mean
from polymodal.core.options import StrictModel
from polymodal.serving.errors import RequestError

#: The classes of each output with their probabilities.
Probabilities = Mapping[str, Sequence[tuple[Any, float]]]


class Choice(StrictModel):
    """One of the values of a choice: a class of the model."""

    value: Any
    description: str | None = None


class Level(StrictModel):
    """One of the levels of a score: a class of the model."""

    label: str
    description: str | None = None


class Question(StrictModel):
    """A question about the input."""

    type: Literal["predicate", "choice", "score"]
    """`predicate`: how probable is a class? `choice`: which class is it? `score`: which level is it, on the average?"""
    instructions: Any = None
    """It has no effect: a model answers what it was trained for."""
    name: str | None = None
    """Of a predicate: `output.class`, or an output whose classes are true and false. Otherwise an output; not needed if
    there is only one with classes."""
    choices: list[Choice] = Field(default=[], max_length=255)
    levels: list[Level] = Field(default=[], max_length=255)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for kind, key, given in (("choice", "choices", self.choices), ("score", "levels", self.levels)):
            if self.type == kind and len(given) < 2:
                raise ValueError(f"a {kind} needs at least 2 {key}")
            if self.type != kind and given:
                raise ValueError(f"a {self.type} has no {key}")
        return self


def answer_question(question: Question, found: Probabilities, path: str) -> dict[str, Any]:
    """The answer to a question. The probabilities of choices and levels are those given that it is one of them.

    path: the key of the question in the request

    Raises:
        RequestError: the model has no such output or class, or gives all choices the probability 0.
    """
    head = {"type": question.type, "name": question.name}
    if question.type == "predicate":
        return head | {"probability": _predicate(question.name, found, path)}
    output = _output(question.name, found, path)
    if question.type == "choice":
        values = [one.value for one in question.choices]
        shares = _shares(values, found[output], f"{path}.choices")
        best = max(range(len(values)), key=shares.__getitem__)
        listed = [{"value": value, "probability": share} for value, share in zip(values, shares, strict=True)]
        return head | {"choice": values[best], "confidence": shares[best], "probabilities": listed}
    labels = [one.label for one in question.levels]
    shares = _shares(labels, found[output], f"{path}.levels")
    listed = [
        {"value": level, "label": label, "probability": share}
        for level, (label, share) in enumerate(zip(labels, shares, strict=True))
    ]
    score = sum(level * share for level, share in enumerate(shares))
    return head | {"score": score, "confidence": max(shares), "probabilities": listed}


def _predicate(name: str | None, found: Probabilities, path: str) -> float:
    labels = {f"{output}.{label}": share for output, classes in found.items() for label, share in classes}
    if name in labels:
        return labels[name]
    output = _output(name, found, path)
    truth = [share for label, share in found[output] if label is True]
    if not truth:
        known = ", ".join(f"{output}.{label}" for label, _ in found[output][:5])
        raise RequestError(
            f"{path}.name: {output!r} has other classes than true and false; name one of them, such as {known}",
            param=f"{path}.name",
        )
    return truth[0]


def _output(name: str | None, found: Probabilities, path: str) -> str:
    if name is None and len(found) == 1:
        return next(iter(found))
    if name is None or name not in found:
        hint = did_you_mean(name or "", found)
        raise RequestError(f"{path}.name: it must be an output with classes; {hint}", param=f"{path}.name")
    return name


def _shares(values: Sequence[Any], classes: Sequence[tuple[Any, float]], path: str) -> list[float]:
    """The probability of each of the values, given that it is one of them."""
    labels = {_key(label): share for label, share in classes}
    keys = [_key(value) for value in values]
    for value, key in zip(values, keys, strict=True):
        if key not in labels:
            hint = did_you_mean(str(value), [str(label) for label, _ in classes])
            raise RequestError(f"{path}: the model has no class {value!r}; {hint}", code="unknown_class", param=path)
    if len(set(keys)) < len(keys):
        raise RequestError(f"{path}: a class is given twice", param=path)
    shares = [labels[key] for key in keys]
    total = sum(shares)
    if not total > 0:
        raise RequestError(f"{path}: the model gives all of these classes the probability 0", param=path)
    return [share / total for share in shares]


def _key(value: Any) -> str | bool:
    """A class as clients write it: true and false are no texts, everything else is its text."""
    return value if isinstance(value, bool) else str(value)
