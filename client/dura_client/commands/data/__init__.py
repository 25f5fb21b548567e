"""The commands of `dura site data`: one module for each thing that a data manager does."""
