"""Downloads from the Hugging Face Hub, with its local cache."""

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

from polymodal.core.checksum import read_signed, sign
from polymodal.core.errors import MissingExtraError, RecipeError
from polymodal.core.paths import cache_folder, cache_writes

OFFLINE_HINT = (
    "use a local folder, `starter` (weights from installed packages), or download the weights while online: "
    "polymodal weights fetch NAME --modality MODALITY"
)


@dataclass(frozen=True)
class Snapshot:
    """The files of a repository at one commit, in the cache of the hub."""

    folder: Path
    commit: str


def fetch(repo: str, revision: str | None, patterns: list[str]) -> Snapshot:
    """Download the files of `repo` that match `patterns`, at `revision` (None: the newest commit of the default
    branch).

    Files that were downloaded before are read from the cache without network access, also for a branch. If the hub is
    unreachable or disabled (`HF_HUB_OFFLINE`), the cached files of the revision are used.

    Raises:
        RecipeError: the repository or revision does not exist or is not accessible, or the hub is unreachable and the
            files are not cached.
        MissingExtraError: huggingface_hub is not installed.
    """
    if find_spec("huggingface_hub") is None:
        raise MissingExtraError("huggingface_hub", "pretrained", f"the checkpoint {repo}")
    record = _record_path(repo, revision, patterns)
    return _recorded(record) or _download(repo, revision, patterns, record)


def cached(repo: str, revision: str | None) -> Path | None:
    """The folder of a revision in the cache of the hub (None: the newest downloaded one), complete or not."""
    if find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import constants

    repo_folder = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"
    branch = repo_folder / "refs" / (revision or "main")
    commit = branch.read_text().strip() if branch.is_file() else revision
    folder = repo_folder / "snapshots" / (commit or "")
    return folder if commit and folder.is_dir() else None


def _download(repo: str, revision: str | None, patterns: list[str], record: Path) -> Snapshot:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    # Network errors are exceptions of the underlying HTTP library, which depends on the version of huggingface_hub.
    network_error: Any = HfHubHTTPError.__bases__[0]
    name = f"{repo}@{revision}" if revision else repo
    with readable_errors(name):
        try:
            HfApi().model_info(repo, revision=revision)
        except HfHubHTTPError:
            raise
        except (OfflineModeIsEnabled, network_error) as unreachable:
            problem = f"the hub is unreachable and {name} is not in its cache ({unreachable}); {OFFLINE_HINT}"
            try:
                cached_folder = Path(
                    snapshot_download(repo, revision=revision, allow_patterns=patterns, local_files_only=True)
                )
            except LocalEntryNotFoundError:
                raise RecipeError("", problem) from unreachable
            if not any(fnmatch(file, pattern) for file in _files(cached_folder) for pattern in patterns):
                raise RecipeError("", problem) from unreachable
            return Snapshot(cached_folder, cached_folder.name)
        try:
            folder = Path(snapshot_download(repo, revision=revision, allow_patterns=patterns))
        except HfHubHTTPError:
            raise
        except network_error as error:
            raise RecipeError("", f"the download of {name} is incomplete ({error}); try again") from error
    _record(record, folder)
    return Snapshot(folder, folder.name)


@contextmanager
def readable_errors(name: str) -> Iterator[None]:
    """Convert exceptions of the hub client to errors that state what to do."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repo = name.partition("@")[0]
    try:
        yield
    except GatedRepoError as error:
        problem = f"{repo} is gated: accept its terms on its page, then log in (hf auth login, or HF_TOKEN)"
        raise RecipeError("", problem) from error
    except RepositoryNotFoundError as error:
        problem = f"the hub has no model {repo}, or it is private: check the name, or log in (hf auth login)"
        raise RecipeError("", problem) from error
    except RevisionNotFoundError as error:
        raise RecipeError("", f"{name!r}: {repo} has no such revision; check the page of the model") from error
    except HFValidationError as error:
        raise RecipeError("", f"{name!r} is not a valid hub id ({error})") from error
    except HfHubHTTPError as error:
        raise RecipeError("", f"the hub refused {name} ({error}); {OFFLINE_HINT}") from error
    except OSError as error:
        raise RecipeError("", f"cannot download {name} ({error}); {OFFLINE_HINT}") from error


def _record_path(repo: str, revision: str | None, patterns: list[str]) -> Path:
    """The path of the record that these files are complete in the cache of the hub."""
    from huggingface_hub import constants

    key = xxhash.xxh3_128_hexdigest(json.dumps([constants.HF_HUB_CACHE, repo, revision, patterns]).encode())
    return cache_folder() / "weights" / "hub" / f"{repo.replace('/', '--')}-{key}.json"


def _recorded(record: Path) -> Snapshot | None:
    values = read_signed(record)
    if values is None:
        return None
    folder = Path(values["folder"])
    complete = all((folder / file).is_file() for file in values["files"])
    return Snapshot(folder, folder.name) if values["files"] and complete else None


def _record(record: Path, folder: Path) -> None:
    write_atomic(record, json.dumps(sign({"folder": str(folder), "files": _files(folder)})))


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def write_atomic(path: Path, text: str) -> None:
    """Write a small file of the cache atomically: no reader sees an incomplete file.

    Raises:
        PolymodalError: the cache cannot be written to.
    """
    with cache_writes(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
            file.write(text)
        os.replace(file.name, path)
