"""The outputs of an evaluation: their places in the summed vector, and the table of duplicate recordings."""
