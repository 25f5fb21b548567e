"""One target under atheris; started by :mod:`tests.fuzz`."""

from __future__ import annotations

import contextlib
import sys

import atheris

with atheris.instrument_imports(include=["dura_common"]):
    from tests.fuzz.targets import targets


def main() -> None:
    """Fuzz the target that the first argument names; the others are libFuzzer's."""
    target = targets()[sys.argv[1]]

    def one(content: bytes) -> None:
        with contextlib.suppress(target.refusals):
            target.parse(content)

    atheris.Setup([sys.argv[0], *sys.argv[2:]], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
