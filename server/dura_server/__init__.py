"""Everything that runs at the coordinator and on a researcher's desk; it sees sums over sites, never a recording."""
