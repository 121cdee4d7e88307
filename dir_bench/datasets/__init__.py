"""Benchmarks: one module each at the top, which its YAML names, and rooms of what they share by kind.

The top holds the contract (`base`), the benchmarks (`gauge`, `arrays`, `images`, `faces`, `nyud2`, `sts_b`, `shhs`) and
what makes other training sets of one (`subsets`, `splits`).
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    **{name: f"pictures.{name}" for name in ("decoding", "pixels", "augment")},
    **{name: f"download.{name}" for name in ("fetch", "transfer", "archives")},
    **{f"depth_{name}": f"depth.{name}" for name in ("sample", "split", "transform")},
    **{f"psg_{name}": f"sleep.{name}" for name in ("sample", "signals", "store", "tables")},
    "imdb_meta": "faces.imdb_meta",
}
"""Modules that lay at the top before there were rooms: users' scripts still import them by these names."""


class _Moved(MetaPathFinder, Loader):
    """Gives the module itself under its old name, so that there is one of each of its classes."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        return ModuleSpec(fullname, self) if package == __name__ and name in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(f"{__name__}.{MOVED[spec.name.rpartition('.')[2]]}")
        self._own = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._own


sys.meta_path.append(_Moved())
