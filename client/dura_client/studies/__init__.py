"""Studies that the site was offered, and what it decided on each."""
