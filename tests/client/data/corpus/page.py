"""``python -m tests.client.data.corpus.page`` writes two pages: every kind of finding, and every planted defect."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.client.data.corpus.every import DEFECTS
from tests.client.data.corpus.outcome import Outcome, examine
from tests.client.data.corpus.tree import write_tree

from dura_client.data.findings.grade import Grade
from dura_client.data.findings.kinds import KINDS

PAGE = Path(__file__).parents[4] / "docs" / "data" / "defects.md"
HEAD = """# Defects and what the check says

Written by `python -m tests.client.data.corpus.page`. Each row is one change of a sound data set of five recordings; the
check was run on it, and this is what it said. Tests plant every defect again: none may be accepted in silence, and none
may end in a traceback. What each code means and what mends it stands in [Findings](findings.md).

| what was changed | code | consequence | what `dura site data check` says |
| --- | --- | --- | --- |
"""


FINDINGS = PAGE.with_name("findings.md")
FINDINGS_HEAD = """# Findings

Written by `python -m tests.client.data.corpus.page` from the program itself.

`dura site data check` names everything that a reader or a step of preparation would do in silence. Each finding has a
code, a place, a cause and a remedy. Findings are for the data manager of the site: they stand in no log, and nothing of
them leaves. The consequence is the usual one; a finding may be milder or worse where the check knows more. If something
stops a study, the command ends with exit code 10. [Defects](defects.md) shows examples of every kind.

"""


def findings_page() -> str:
    """Return the page of all kinds of findings."""
    text = FINDINGS_HEAD
    for grade in Grade:
        text += f"## {str(grade).capitalize()}\n\n| code | finding | remedy |\n| --- | --- | --- |\n"
        rows = [f"| `{code}` | {kind.title} | {kind.remedy} |" for code, kind in KINDS.items() if kind.grade is grade]
        text += "\n".join(sorted(rows)) + "\n\n"
    return text.rstrip() + "\n"


def rows_of(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the rows of the page."""
    rows = []
    for outcome in outcomes:
        named = [item for item in outcome.new if item.code == outcome.defect.code]
        first = next((item for item in named if item.place.endswith(("_eeg.edf", "_eeg.vhdr"))), named[0])
        cause = first.cause.replace("|", "\\\\|")
        rows.append(f"| {outcome.defect.name} | `{first.code}` | {first.grade} | {first.title}: {cause} |")
    return rows


def main() -> None:
    """Write the page."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for kind in {defect.kind for defect in DEFECTS}:
            write_tree(root / kind, kind)
        outcomes = [examine(defect, root / defect.kind, root / "tree") for defect in DEFECTS]
    PAGE.parent.mkdir(exist_ok=True)
    FINDINGS.write_text(findings_page())
    PAGE.write_text(HEAD + "\n".join(rows_of(outcomes)) + "\n")


if __name__ == "__main__":
    main()
