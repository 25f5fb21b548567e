"""`dura site audit-privacy`: test whether the installed engine adds the noise that the accounting assumes."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from dura_client.commands.options import DEFAULT_HOME, DataOption, HomeOption, StudyArgument
from dura_common.runtime.console import JsonOption, Output, command

if TYPE_CHECKING:
    from dura_client.training.audit import Audit
    from dura_common.study import Study


def register(app: typer.Typer) -> None:
    """Add the command to `dura site`."""
    app.command("audit-privacy")(audit_privacy)


def audit_privacy(
    study: StudyArgument,
    data: DataOption,
    canaries: Annotated[
        int, typer.Option(help="Number of invented patients. A higher number makes the audit more precise and slower.")
    ] = 600,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Test the installed training engine with invented patients, under the settings of one study.

    The audit runs at this site. It releases nothing and costs the patients no privacy budget. Keep its result inside
    the hospital. A failed audit ends with exit code 11.
    """
    with command(as_json) as out:
        from dura_client.review.alone import audit_here
        from dura_client.site.home import SiteHome
        from dura_client.studies.approvals import find_offer
        from dura_client.training.audit import CANNOT_SHOW, SHOWS
        from dura_common.errors import TrustError
        from dura_common.study import SharedNoise

        site = SiteHome(home.expanduser())
        offer = find_offer(site, study)
        with out.progress() as bar:
            task = bar.add_task("steps", total=offer.study.training.steps)
            result, accounted = audit_here(
                site,
                offer.study,
                data,
                canaries=canaries,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        _show(out, offer.study, result, accounted)
        if isinstance(offer.study.privacy, SharedNoise):
            out.say(
                "The sites of this study share the noise. This audit tests the share of this site alone, which is what "
                "a coordinator would see if it broke the secure aggregation. Opened sums carry the noise of all sites."
            )
        out.say("[bold]What this audit shows[/bold]")
        for sentence in SHOWS:
            out.say(f"  - {sentence}")
        out.say("[bold]What this audit cannot show[/bold]")
        for sentence in CANNOT_SHOW:
            out.say(f"  - {sentence}")
        low, high = result.fitted_epsilon_range
        out.result(
            {
                "study": offer.digest,
                "passed": result.passed,
                "canaries": result.canaries,
                "members": result.members,
                "steps": result.steps,
                "delta": result.delta,
                "noise": offer.study.privacy.noise,
                "epsilon_accounted": accounted,
                "epsilon_expected": result.expected_epsilon,
                "epsilon_fitted": result.fitted_epsilon,
                "epsilon_fitted_range": [low, high],
                "checks": [{**asdict(check), "passed": check.passed} for check in result.checks],
                "shows": SHOWS,
                "cannot_show": CANNOT_SHOW,
            },
            "the audit passed"
            if result.passed
            else "the audit FAILED: do not take part in a study with this installation",
        )
        if not result.passed:
            raise typer.Exit(TrustError.exit_code)


def _show(out: Output, study: Study, result: Audit, accounted: float) -> None:
    table = Table("", "figure (in clipping norms per step)", "measured", "expected", title=f"Audit of {study.name}")
    for check in result.checks:
        mark = "[green]pass[/green]" if check.passed else "[red]FAIL[/red]"
        wanted = f"<= {check.expected:.4g}" if check.bound else f"{check.expected:.4g} +- {check.tolerance:.2g}"
        table.add_row(mark, check.name, f"{check.seen:.4g}", wanted)
    out.say(table)
    low, high = result.fitted_epsilon_range
    out.say(
        f"{result.canaries} invented patients, of whom {result.members} took part, over {result.steps} steps. Measured "
        f"epsilon: {result.fitted_epsilon:.2f} (95 % interval: {low:.2f} to {high:.2f}) at delta {result.delta:g}. "
        f"Expected of this attack, if the noise is as accounted: {result.expected_epsilon:.2f}. "
        f"Accounted epsilon, the bound for every attack: {accounted:.2f}."
    )
