"""The places where the commands of `dura study` act: the coordinator's folder, or a researcher's desk."""
