"""Everything that runs in a hospital. Raw data, patient values and keys never leave this package's machine."""
