"""Everything that predicts rows is asked in the same way."""

from __future__ import annotations

import inspect

import pytest

from polymodal.applications.few_shot.few_shot import FewShot
from polymodal.applications.few_shot.zero_shot import ZeroShot
from polymodal.model.ensemble import Ensemble
from polymodal.model.model import Model
from polymodal.model.protocol import PredictsRows

#: That each is a `PredictsRows` the type checker says.
PREDICT: list[type[PredictsRows]] = [Model, Ensemble, FewShot, ZeroShot]
MEMBERS = [name for name in vars(PredictsRows) if not name.startswith("_")]
#: Options of a model alone, which has calibration rows.
MORE: dict[tuple[type[PredictsRows], str], set[str]] = {(Model, "predict"): {"coverage", "score", "within", "max_risk"}}


def test_the_members_of_the_protocol() -> None:
    assert MEMBERS == ["tasks", "classes", "predict", "predict_proba", "evaluate", "open", "stream"]


@pytest.mark.parametrize("kind", PREDICT)
@pytest.mark.parametrize("name", MEMBERS)
def test_members_have_the_parameters_of_the_protocol(kind: type[PredictsRows], name: str) -> None:
    wanted, own = getattr(PredictsRows, name), getattr(kind, name)
    assert isinstance(own, property) == isinstance(wanted, property)
    if not isinstance(wanted, property):
        given, asked = (dict(inspect.signature(one).parameters) for one in (own, wanted))
        more = {key: one for key, one in given.items() if key not in asked}
        assert set(more) == MORE.get((kind, name), set())
        assert all(one.kind is one.KEYWORD_ONLY and one.default is None for one in more.values())
        assert {key: one for key, one in given.items() if key in asked} == asked
