"""Registered data sets: the site's list of what may enter studies.

A registration is independent of any study, and its name means nothing to the ledger: patients are known by the
keyed hash of their BIDS label, so renaming or registering twice resets nobody's spending.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from dura_client.data.dataset import DataSet
from dura_client.site.home import SiteHome
from dura_common.errors import InputError, StateError
from dura_common.runtime.files import private_folder, read_limited, write_atomic
from dura_common.study import explain_validation


def register(home: SiteHome, dataset: DataSet) -> None:
    """Keep a registration.

    Raises:
        InputError: the folder is not a BIDS data set.
        StateError: a data set of that name is registered already.
    """
    _require_bids(dataset)
    path = private_folder(home.data) / f"{dataset.name}.json"
    if path.exists():
        raise StateError(
            f"a data set called {dataset.name} is registered already",
            hint=f"Change it with `dura site data update {dataset.name}`, or choose another name.",
        )
    write_atomic(path, _content(dataset), replace=False)


def replace(home: SiteHome, dataset: DataSet) -> None:
    """Put a registration into the place of the one of the same name.

    Raises:
        InputError: none of that name is registered, or the folder is not a BIDS data set.
    """
    load_dataset(home, dataset.name)
    _require_bids(dataset)
    write_atomic(home.data / f"{dataset.name}.json", _content(dataset))


def remove(home: SiteHome, name: str) -> None:
    """Forget a registration. Recordings and ledger stay as they are.

    Raises:
        InputError: none of that name.
    """
    load_dataset(home, name)
    (home.data / f"{name}.json").unlink()


def _require_bids(dataset: DataSet) -> None:
    if not (Path(dataset.root) / "dataset_description.json").exists():
        raise InputError(
            f"{dataset.root} is not a BIDS folder: it has no dataset_description.json",
            hint="See bids.neuroimaging.io, or `dura site data simulate` for an example.",
        )


def _content(dataset: DataSet) -> bytes:
    return dataset.model_dump_json(indent=2).encode()


def load_dataset(home: SiteHome, name: str) -> DataSet:
    """Return a registered data set.

    Raises:
        InputError: none of that name, or its file is not valid.
    """
    path = home.data / f"{name}.json"
    if "/" in name or not path.exists():
        known = ", ".join(sorted(item.name for item in list_datasets(home))) or "none"
        raise InputError(f"there is no data set called {name!r}; registered: {known}", hint="Use `dura site data add`.")
    return _read(path)


def list_datasets(home: SiteHome) -> list[DataSet]:
    """Return all registered data sets, sorted by name.

    Raises:
        InputError: a registration is not valid.
    """
    return [_read(path) for path in sorted(home.data.glob("*.json"))] if home.data.exists() else []


def _read(path: Path) -> DataSet:
    try:
        return DataSet.model_validate_json(read_limited(path, what="the registration"))
    except ValidationError as error:
        raise explain_validation(error, what=f"the registration {path.name}") from error
