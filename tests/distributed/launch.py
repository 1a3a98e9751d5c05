"""Starts the processes of a launch, with the variables that `torchrun` sets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Seconds after which a process gives up on the others, and after which a launch has hung.
COLLECTIVE_SECONDS, LAUNCH_SECONDS = 120, 600


def environment(**variables: str) -> dict[str, str]:
    """The environment of a process that finds the package and the tests."""
    paths = [str(ROOT / "src"), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "POLYMODAL_COLLECTIVE_TIMEOUT": str(COLLECTIVE_SECONDS),
        **variables,
    }


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def launch_variables(size: int) -> list[dict[str, str]]:
    """By process: the variables with which `size` processes find each other."""
    shared = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]


def start(size: int, arguments: Sequence[str], *, apart: bool = False, **variables: str) -> list[subprocess.Popen[str]]:
    """`python ARGUMENTS` in `size` processes that find each other; `apart` keeps their errors out of their output."""
    return [
        subprocess.Popen(
            [sys.executable, *arguments],
            env=environment(**{**own, **variables}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if apart else subprocess.STDOUT,
            text=True,
        )
        for own in launch_variables(size)
    ]


def run(arguments: Sequence[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """`python ARGUMENTS`, and what it wrote."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=LAUNCH_SECONDS,
        check=False,
    )


def torchrun(size: int, arguments: Sequence[str], *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The real launcher."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size)]
    return run([*launcher, *options, *arguments], **variables)
