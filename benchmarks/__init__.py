"""One command per claim; each writes a result file that names its command, commit and machine."""
