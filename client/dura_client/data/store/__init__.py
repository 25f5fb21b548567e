"""Prepared patients on disk: named by the content of everything that made them, checked when opened, cleaned up."""
