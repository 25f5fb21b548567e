"""The consortium's authority: it admits members, issues certificates and signs the roster."""
