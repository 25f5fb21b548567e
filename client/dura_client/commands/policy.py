"""`dura site policy`: the privacy officer's rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from dura_client.commands.options import DEFAULT_HOME, HomeOption
from dura_common.errors import InputError
from dura_common.policy.profiles import PROFILES, Profile
from dura_common.runtime.console import JsonOption, command

app = typer.Typer(no_args_is_help=True)


@app.command()
def init(  # one option for every rule
    *,
    profile: Annotated[
        Profile,
        typer.Option(
            help="The rules to begin with; every option below replaces one of them. The strict profile has smaller "
            "limits, asks for this site's own countersignature and hides the time of a step."
        ),
    ] = Profile.STANDARD,
    epsilon_per_study: Annotated[
        float | None, typer.Option(help="Largest epsilon that one study may cost a patient. Standard: 3. Strict: 1.")
    ] = None,
    epsilon_total: Annotated[
        float | None,
        typer.Option(help="Largest epsilon that all studies together may cost a patient. Standard: 10. Strict: 3."),
    ] = None,
    delta: Annotated[
        float | None, typer.Option(help="Delta at which both limits hold. Standard: 0.0001. Strict: 0.00001.")
    ] = None,
    minimum_patients: Annotated[
        int | None,
        typer.Option(help="Smallest number of patients per site that a study must require. Standard: 10. Strict: 20."),
    ] = None,
    minimum_sites: Annotated[
        int | None, typer.Option(help="Smallest number of sites that a study must require. Standard: 3. Strict: 4.")
    ] = None,
    allow_public_data_without_noise: Annotated[
        bool, typer.Option(help="Whether data registered as public may enter studies without noise.")
    ] = False,
    epsilon_if_broken: Annotated[
        float | None,
        typer.Option(
            help="Allow noise that sites share, up to this epsilon per study if the secure aggregation were broken."
        ),
    ] = None,
    confirmed_sites: Annotated[
        int | None,
        typer.Option(
            help="Smallest number of a study's other sites confirmed by telephone. Default: all but the "
            "colluders that the study tolerates."
        ),
    ] = None,
    own_countersignature: Annotated[
        bool | None,
        typer.Option(
            "--own-countersignature/--any-countersignatures",
            help="Follow only rosters that this site has countersigned itself.",
        ),
    ] = None,
    hide_timing: Annotated[
        bool | None,
        typer.Option(
            "--hide-timing/--show-timing",
            help="Let no time tell which patients were drawn. Training takes two to three times as long.",
        ),
    ] = None,
    replace: Annotated[bool, typer.Option(help="Replace the existing policy.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Write the site's policy. Without a policy, nothing leaves the site."""
    with command(as_json) as out:
        from dura_client.site.home import SiteHome
        from dura_client.site.policy import explain, write_policy
        from dura_client.site.settings import load_settings
        from dura_common.policy import Policy

        site = SiteHome(home.expanduser())
        load_settings(site)
        rules = {
            "epsilon_per_study": epsilon_per_study,
            "epsilon_total": epsilon_total,
            "delta": delta,
            "minimum_patients": minimum_patients,
            "minimum_sites": minimum_sites,
            "public_data_without_noise": allow_public_data_without_noise or None,
            "noise": None if epsilon_if_broken is None else ("local", "shared"),
            "epsilon_if_broken": epsilon_if_broken,
            "confirmed_sites": confirmed_sites,
            "own_countersignature": own_countersignature,
            "hide_timing": hide_timing,
        }
        try:
            policy = Policy.model_validate({**PROFILES[profile].model_dump(), **_without_none(rules)})
        except ValueError as error:
            raise InputError("a value of the policy is out of range; see `dura site policy init --help`") from error
        if policy.epsilon_per_study > policy.epsilon_total:
            raise InputError(
                f"--epsilon-per-study ({policy.epsilon_per_study:g}) must not exceed --epsilon-total "
                f"({policy.epsilon_total:g})"
            )
        write_policy(site, policy, replace=replace)
        out.result({"policy": policy.model_dump(), "path": str(site.policy)}, "\n".join(explain(policy)))


def _without_none(rules: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in rules.items() if value is not None}


@app.command("explain")
def explain_(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Explain the site's policy in sentences."""
    with command(as_json) as out:
        from dura_client.site.home import SiteHome
        from dura_client.site.policy import explain, load_policy

        policy = load_policy(SiteHome(home.expanduser()))
        sentences = explain(policy)
        out.result({"policy": policy.model_dump(), "sentences": sentences}, "\n".join(sentences))
