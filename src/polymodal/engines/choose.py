"""The engine of a command by its name."""

from __future__ import annotations

from typing import Literal, get_args

from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.engines.local import LocalEngine
from polymodal.engines.ray_cluster import RayEngine
from polymodal.engines.shards import Engine

EngineName = Literal["local", "ray"]


def make_engine(name: str, workers: int | None = None) -> Engine:
    """The engine `local` or `ray`.

    workers: number of processes; default: one for `local`, and as many as fit into the cluster for `ray`

    Raises:
        RecipeError: there is no such engine, or the number is not positive.
    """
    if workers is not None and workers < 1:
        raise RecipeError("workers", f"must be at least 1, not {workers}")
    if name == "local":
        return LocalEngine(workers or 1)
    if name == "ray":
        return RayEngine(workers)
    raise RecipeError("engine", f"there is no engine {name!r}; {did_you_mean(name, get_args(EngineName))}")
