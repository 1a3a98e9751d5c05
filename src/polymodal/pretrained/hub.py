"""Files of the hub: from its own cache where they are complete there, else fetched."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import xxhash

from polymodal.core.errors import MissingExtraError, RecipeError
from polymodal.core.paths import cache_folder

ELSEWHERE = (
    "name a local folder, take `starter` (weights that packages carry), or prepare this machine while it is connected: "
    "polymodal weights fetch NAME --modality MODALITY"
)


@dataclass(frozen=True)
class Snapshot:
    """Files of a repository at one commit, where the hub's cache keeps them."""

    folder: Path
    commit: str


def fetch(repo: str, revision: str | None, patterns: list[str]) -> Snapshot:
    """The files of `repo` that match `patterns`, at `revision` (None: the newest of its default branch).

    What was fetched once is taken from the hub's cache without asking the network, a branch too. Where the network is
    not reached or refused (`HF_HUB_OFFLINE`), what the cache has of the revision must do.

    Raises:
        RecipeError: no such repository or revision, or no right to it; or not reached and not in the cache.
        MissingExtraError: huggingface_hub is missing.
    """
    if find_spec("huggingface_hub") is None:
        raise MissingExtraError("huggingface_hub", "pretrained", f"the checkpoint {repo}")
    note = _note(repo, revision, patterns)
    return _remembered(note) or _downloaded(repo, revision, patterns, note)


def cached(repo: str, revision: str | None) -> Path | None:
    """The folder that the hub's cache has of a revision (None: the newest that was fetched), complete or not."""
    if find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import constants

    place = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"
    branch = place / "refs" / (revision or "main")
    commit = branch.read_text().strip() if branch.is_file() else revision
    folder = place / "snapshots" / (commit or "")
    return folder if commit and folder.is_dir() else None


def _downloaded(repo: str, revision: str | None, patterns: list[str], note: Path) -> Snapshot:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    # Failures of the network are of the HTTP library underneath, which differs between versions.
    network: Any = HfHubHTTPError.__bases__[0]
    where = f"{repo}@{revision}" if revision else repo
    with plain_reasons(where):
        try:
            HfApi().model_info(repo, revision=revision)
        except HfHubHTTPError:
            raise
        except (OfflineModeIsEnabled, network) as unreached:
            problem = f"the hub is not reached and its cache does not have {where} ({unreached}); {ELSEWHERE}"
            try:
                kept = Path(snapshot_download(repo, revision=revision, allow_patterns=patterns, local_files_only=True))
            except LocalEntryNotFoundError:
                raise RecipeError("", problem) from unreached
            if not any(fnmatch(file, pattern) for file in _files(kept) for pattern in patterns):
                raise RecipeError("", problem) from unreached
            return Snapshot(kept, kept.name)
        try:
            folder = Path(snapshot_download(repo, revision=revision, allow_patterns=patterns))
        except HfHubHTTPError:
            raise
        except network as error:
            raise RecipeError("", f"the files of {where} came only in part ({error}); try again") from error
    _remember(note, folder)
    return Snapshot(folder, folder.name)


@contextmanager
def plain_reasons(where: str) -> Iterator[None]:
    """What the hub's client raises, as an error that says what to do."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repo = where.partition("@")[0]
    try:
        yield
    except GatedRepoError as error:
        problem = f"{repo} is gated: accept its terms on its page, then log in (hf auth login, or HF_TOKEN)"
        raise RecipeError("", problem) from error
    except RepositoryNotFoundError as error:
        problem = f"the hub has no model {repo}, or it is private: check the name, or log in (hf auth login)"
        raise RecipeError("", problem) from error
    except RevisionNotFoundError as error:
        raise RecipeError("", f"{repo} has no such revision as {where!r} says: check it on its page") from error
    except HFValidationError as error:
        raise RecipeError("", f"{where!r} is no hub id ({error})") from error
    except HfHubHTTPError as error:
        raise RecipeError("", f"the hub refused {where} ({error}); {ELSEWHERE}") from error
    except OSError as error:
        raise RecipeError("", f"{where} could not be fetched ({error}); {ELSEWHERE}") from error


def _note(repo: str, revision: str | None, patterns: list[str]) -> Path:
    """Where it is written down that these files are complete in the hub's cache."""
    from huggingface_hub import constants

    key = xxhash.xxh3_128_hexdigest(json.dumps([constants.HF_HUB_CACHE, repo, revision, patterns]).encode())
    return cache_folder() / "weights" / "hub" / f"{repo.replace('/', '--')}-{key}.json"


def _remembered(note: Path) -> Snapshot | None:
    if not note.is_file():
        return None
    values = json.loads(note.read_text(encoding="utf-8"))
    folder = Path(values["folder"])
    complete = all((folder / file).is_file() for file in values["files"])
    return Snapshot(folder, folder.name) if values["files"] and complete else None


def _remember(note: Path, folder: Path) -> None:
    replacing(note, json.dumps({"folder": str(folder), "files": _files(folder)}))


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def replacing(path: Path, text: str) -> None:
    """Write a small file so that no reader ever sees a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
        file.write(text)
    os.replace(file.name, path)
