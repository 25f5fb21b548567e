"""Studies that were offered to the site, and its decision on each study."""
