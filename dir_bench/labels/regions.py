"""Many-, medium- and few-shot regions of the target range, and the zero-shot ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

MANY, MEDIUM, FEW, NONE = range(4)
MAIN_REGIONS = ("all", "many", "medium", "few")
"""The regions that are always reported."""
REGIONS = (*MAIN_REGIONS, "with_data", "zero", "interp", "extrap")
"""All regions, in the order in which they are reported."""


@dataclass(frozen=True, eq=False)
class Regions:
    """The region of each bin, decided by the training split alone.

    Args:
        codes: 0 many, 1 medium, 2 few, 3 in none of them, int64 [n_bins].
        zero: Bins without training samples, bool [n_bins].
        interp: Those of them between the first and the last bin with samples (zero-shot interpolation).
        extrap: The others of them (zero-shot extrapolation).

    Source:
        Yang et al. 2021 (arXiv:2102.09554), section 5: more than 100 training samples per bin, 20 to 100,
        fewer than 20; section 5.2 for zero-shot interpolation and extrapolation.
    """

    codes: NDArray[np.int64]
    zero: NDArray[np.bool_]
    interp: NDArray[np.bool_]
    extrap: NDArray[np.bool_]

    @classmethod
    def from_counts(
        cls,
        counts: ArrayLike,
        *,
        many_over: float = 100,
        few_under: float = 20,
        zero_is_few: bool = True,
        many: Iterable[int] | None = None,
        medium: Iterable[int] | None = None,
        few: Iterable[int] | None = None,
    ) -> Regions:
        """Decide regions from training counts per bin, shape [n_bins], or from lists of bins.

        Args:
            counts: Training samples (or pixels) per bin.
            many_over: A bin with more than this is many.
            few_under: A bin with fewer than this is few; all others are medium.
            zero_is_few: As published, an empty bin is few as well. False: it is in none of the three.
            many: Bins that are many whatever their count; a list wins over every rule above. STS-B and NYUD2
                have published lists (`sts-b-dir/util.py`, `nyud2-dir/util.py`).
            medium: The same for medium.
            few: The same for few.

        Raises:
            ValueError: If counts are not a list of numbers >= 0, the thresholds cross, or a list names a bin
                that does not exist or that another list names too.
        """
        held = np.asarray(counts)
        if held.ndim != 1 or held.size == 0 or not (held >= 0).all():
            raise ValueError(f"counts must be a list of numbers >= 0, one a bin, not of shape {held.shape}")
        if many_over < few_under - 1:
            raise ValueError(f"a bin could be both many (over {many_over}) and few (under {few_under})")
        zero = held == 0
        codes = np.select([held > many_over, held < few_under], [MANY, FEW], MEDIUM).astype(np.int64)
        codes[zero] = FEW if zero_is_few else NONE
        listed = np.zeros(len(held), dtype=bool)
        for code, bins in ((MANY, many), (MEDIUM, medium), (FEW, few)):
            chosen = np.array([] if bins is None else list(bins), dtype=np.int64)
            if ((chosen < 0) | (chosen >= len(held))).any():
                raise ValueError(f"a list of bins names one that is not among 0..{len(held) - 1}: {chosen.tolist()}")
            if listed[chosen].any():
                raise ValueError(f"bin {chosen[listed[chosen]][0]} is listed in two regions")
            listed[chosen] = True
            codes[chosen] = code
        filled = np.flatnonzero(~zero)
        inside = np.zeros_like(zero)
        if filled.size:
            inside[filled[0] : filled[-1]] = True
        return cls(codes, zero, zero & inside, zero & ~inside)

    def __len__(self) -> int:
        return len(self.codes)

    @cached_property
    def cells(self) -> NDArray[np.uint8]:
        """Number of the cell of each bin, [n_bins]: bins of one cell are in the same regions."""
        cells: NDArray[np.uint8] = (self.codes + 4 * self.interp + 8 * self.extrap).astype(np.uint8)
        return cells

    @cached_property
    def members(self) -> dict[str, NDArray[np.bool_]]:
        """Which cells, bool [12], make up each region: all, many, medium, few, with_data, zero, interp, extrap.

        "with_data" is what is not zero-shot: the second column of the paper's Table 6.
        """
        cell = np.arange(12)
        code, zero_shot = cell % 4, cell // 4
        masks = {"all": cell >= 0, "many": code == MANY, "medium": code == MEDIUM, "few": code == FEW}
        masks |= {"with_data": zero_shot == 0, "zero": zero_shot > 0}
        return masks | {"interp": zero_shot == 1, "extrap": zero_shot == 2}

    def masks(self, bin_index: ArrayLike) -> dict[str, NDArray[np.bool_]]:
        """Return which samples belong to each region, given the bin of each one's *target*.

        "all", "many", "medium", "few" are always there; "zero", "interp" and "extrap" only if some sample
        lies in such a bin, and with "zero" comes "with_data". Masks have the shape of `bin_index`.
        """
        cell = self.cells[np.asarray(bin_index)]
        masks = {name: inside[cell] for name, inside in self.members.items()}
        shown = self.shown({name: int(mask.sum()) for name, mask in masks.items()})
        return {name: mask for name, mask in masks.items() if name in shown}

    @staticmethod
    def shown(counts: Mapping[str, int]) -> list[str]:
        """Return the regions that are worth telling, given the samples in each; see `masks`."""
        return [
            name
            for name, count in counts.items()
            if name in MAIN_REGIONS or (count and (name != "with_data" or counts["zero"]))
        ]
