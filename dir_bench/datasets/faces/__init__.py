"""Benchmarks of faces: a person's age from a picture (Yang et al. 2021, App. B.1–B.2; and UTKFace in their way)."""

from dir_bench.datasets.faces.agedb import AgeDB
from dir_bench.datasets.faces.base import Faces
from dir_bench.datasets.faces.imdb_wiki import IMDBWiki
from dir_bench.datasets.faces.utk import UTKFace

__all__ = ["AgeDB", "Faces", "IMDBWiki", "UTKFace"]
