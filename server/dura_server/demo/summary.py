"""The demo's final summary: the study site by site, the federated, separate and pooled accuracies, and the time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from dura_common.runtime.console import Output


def show(out: Output, result: Mapping[str, Any]) -> None:
    """Print the result of a demo."""
    table = Table("site", "patients", "epsilon spent", "accuracy alone", title="The study, site by site")
    for site in result["sites"]:
        table.add_row(
            site["site"],
            str(site["patients"]),
            f"{site['epsilon']:.2f} (delta {site['delta']:g})",
            f"{site['accuracy_alone']:.3f}",
        )
    out.say(table)
    accuracy = result["accuracy"]
    alone = sum(site["accuracy_alone"] for site in result["sites"]) / len(result["sites"])
    out.say(f"mean of the sites alone  {alone:.3f}   (same epsilon)")
    out.say(f"federated                {accuracy['federated']:.3f}   (same epsilon; held-out patients, exact)")
    out.say(f"  as the study released  {accuracy['federated_released']:.3f}   (noisy sums: what a real study knows)")
    out.say(f"all patients pooled      {accuracy['pooled']:.3f}   (same epsilon; only a simulation may know)")
    out.say(f"chance                   {accuracy['chance']:.3f}")
    total = sum(result["seconds"].values())
    shares = ", ".join(f"{name} {value:.0f} s ({value / total:.0%})" for name, value in result["seconds"].items())
    out.say(f"time: {shares}; {total:.0f} s in all")
    out.say(f"report: {result['report']}")
