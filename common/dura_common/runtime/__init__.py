"""What both sides run on: files, console output, child processes. The only part of common with side effects."""
