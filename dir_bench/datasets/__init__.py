"""Datasets: one module a benchmark. A dataset's name is written in its own module and YAML, nowhere else."""
