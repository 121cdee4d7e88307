"""What a run leaves on disk, and what is made of it: the run store, tables and the published numbers.

Reads files only, never a trainer; torch is not imported anywhere here, so `dir-bench table` starts at once.
"""
