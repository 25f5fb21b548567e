"""The commands of `dura study`: one module for each task of a researcher."""
