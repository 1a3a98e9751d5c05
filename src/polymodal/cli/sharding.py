"""Options of commands that work shard by shard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

EngineOption = Annotated[
    str | None,
    typer.Option("--engine", help="Work in shards: local, or ray (the cluster at RAY_ADDRESS, or this machine)."),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Number of processes that work on shards.")]
ArrayShards = Annotated[
    str | None,
    typer.Option("--shards", help="INDEX/COUNT: the shards of this job of an array of jobs, from 0/COUNT."),
]
ShardRows = Annotated[int | None, typer.Option(min=1, help="Rows of a shard at most. Default: 100000.")]


@dataclass(frozen=True)
class Sharding:
    """The options as they were given."""

    engine: str | None
    workers: int | None
    shards: str | None
    shard_rows: int | None

    def arguments(self) -> dict[str, Any]:
        """The arguments of the public function; those that were not given are left out."""
        return {name: value for name, value in vars(self).items() if value is not None}
