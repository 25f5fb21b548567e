"""``python -m dura_common.runtime.schemas FOLDER`` writes the JSON Schema of study and policy files.

Editors check a TOML file against them while it is typed. Rules between two values (a band below half the sampling
rate, say) have no form in JSON Schema; `dura study check` and the site's policy commands know them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from dura_common.policy import Policy
from dura_common.runtime.files import SHARED_FILE, write_atomic
from dura_common.study import Study

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, str]:
    """Return file names with their content."""
    return {
        f"{name}.schema.json": json.dumps(
            {"$schema": DIALECT, **model.model_json_schema(), "title": f"{name}.toml"}, indent=2, ensure_ascii=False
        )
        + "\n"
        for name, model in (("study", Study), ("policy", Policy))
    }


def main(folder: Path) -> None:
    """Write the files."""
    for name, text in schemas().items():
        write_atomic(folder / name, text.encode(), mode=SHARED_FILE)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
