"""Everything that runs in a hospital; raw data, patient values and keys never leave this package's machine."""
