"""Benchmarks of faces: a person's age from a picture (Yang et al. 2021, App. B.1–B.2)."""

from dir_bench.datasets.faces.agedb import AgeDB
from dir_bench.datasets.faces.base import Faces
from dir_bench.datasets.faces.imdb_wiki import IMDBWiki

__all__ = ["AgeDB", "Faces", "IMDBWiki"]
