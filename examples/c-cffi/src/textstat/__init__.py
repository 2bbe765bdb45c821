"""Counts lines and words of files: the work is done by C."""
