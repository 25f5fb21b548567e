"""Studies at the coordinator and on the researcher's desk: template, plan, signature, stored state."""
