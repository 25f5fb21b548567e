"""The commands of `dura study`: one module for each thing that a researcher does."""
