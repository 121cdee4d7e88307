"""Names derived from a config, never typed: a run's identity, its method as the paper prints it, its folder.

Method names follow the row labels of Yang et al., "Delving into Deep Imbalanced Regression", ICML 2021,
arXiv:2102.09554, Tables 1–5 (VANILLA, SQINV + LDS, FOCAL-R + LDS + FDS, …), and its ablations' settings in
brackets as `published_results.csv` writes them ([KERNEL=TRIANGULAR], [LOSS=HUBER], [KS=9;SIGMA=1]).
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dir_bench.atomic import plain
from dir_bench.schema import Config, Subset

_REWEIGHTS = {"inv": "INV", "sqrt_inv": "SQINV"}
_KERNELS = {"triang": "TRIANGULAR", "laplace": "LAPLACIAN"}
_MIXUPS = {"manifold": "M-MIXUP", "input": "MIXUP"}
_KERNEL_SIZE, _SIGMA = 5, 2.0  # of every row in the main tables


@dataclass(frozen=True, kw_only=True)
class Toggles:
    """The part of a config that a method's name is made of.

    `default_loss`, `default_focal` and `lds_reweight` are facts of the dataset: the plain loss and the
    Focal-R loss of its published recipe, and the weighting that the paper couples with LDS there (square-root
    inverse on faces, inverse elsewhere). With `stages="rrt"`, `reweight` is the weighting of the second
    stage. Kernel sizes and sigmas are in bins.
    """

    reweight: str = "none"
    lds: str = "none"
    lds_kernel_size: int = _KERNEL_SIZE
    lds_sigma: float = _SIGMA
    fds: str = "none"
    fds_kernel_size: int = _KERNEL_SIZE
    fds_sigma: float = _SIGMA
    loss: str = "l1"
    head: str = "regression"
    decode: str = "argmax"
    stages: str = "none"
    resample: str = "none"
    mixup: str = "none"
    parts: tuple[str, ...] = ()
    semantics: str = "published"
    default_loss: str = "l1"
    default_focal: str = "focal_l1"
    lds_reweight: str = "inv"


def method_name(toggles: Toggles) -> str:
    """Return the method as the paper's tables name it: "VANILLA", "SQINV + LDS", "RRT + FDS [KS=9;SIGMA=1]".

    At one dataset, two different toggles never share a name (but for the size and sigma of a kernel that is
    off). What the paper's "VANILLA + LDS" does is named by what it is, "SQINV + LDS" or "INV + LDS":
    `published.published_row` finds the printed row. RRT implies its inverse weights, FOCAL-R + LDS those of
    the dataset's LDS rows. Parts come last, by their names in the config (a head by its class): "RANKSIM",
    "SQINV + RANKSIM", "VANILLA + FDS + RANKSIM".
    """
    part: list[str] = []
    settings: list[str] = []
    if toggles.resample != "none":
        part.append(_upper(toggles.resample))
    _name_loss(toggles, part, settings)
    if toggles.stages != "none":
        part += [_spelt(name) for name in toggles.stages.split("+")]
    if toggles.mixup != "none":
        part.append(_MIXUPS.get(toggles.mixup, _upper(toggles.mixup)))
    _name_weights(toggles, part, settings)
    smoothed = (toggles.lds, toggles.fds) != ("none", "none")
    if not part and (smoothed or toggles.head == "classification" or not toggles.parts):
        part.append("VANILLA")
    if toggles.head == "classification":
        _name_classes(toggles, part, settings)
    part += [label for label, kernel in (("LDS", toggles.lds), ("FDS", toggles.fds)) if kernel != "none"]
    part += [spelt for name in toggles.parts if (spelt := _spelt(name)) not in part]  # a stage may have its head's name
    settings[:0] = _kernel_settings(toggles)
    if toggles.semantics != "published":
        settings.append(f"SEMANTICS={toggles.semantics.upper()}")
    return " + ".join(part) + (f" [{';'.join(settings)}]" if settings else "")


def overrides(name: str) -> list[str]:
    """Return the settings of `dir-bench train` that give the method of this name: the inverse of `method_name`.

    The part before the brackets is a preset, a file of configs/method that has its slug for a name; whether there is
    such a preset is for the caller to see. "VANILLA + LDS [KERNEL=TRIANGULAR]" gives method=vanilla_lds lds=triang.

    Raises:
        ValueError: If a setting in the brackets is none of those that papers vary: KERNEL, KS, SIGMA, LOSS.
    """
    method, _, settings = name.partition(" [")
    smoothers = [part.lower() for part in method.split(" + ") if part in ("LDS", "FDS")]
    found = [f"method={slug(method)}"]
    kernels = {shown: choice for choice, shown in _KERNELS.items()}
    for key, _, value in (setting.partition("=") for setting in settings.rstrip("]").split(";") if setting):
        if key == "KERNEL":
            found += [f"{smoother}={kernels.get(value, value.lower())}" for smoother in smoothers]
        elif key in ("KS", "SIGMA"):
            field = "kernel_size" if key == "KS" else "sigma"
            found += [f"{smoother}.{field}={value}" for smoother in smoothers]
        elif key == "LOSS":
            found.append(f"loss={value.lower()}")
        else:
            raise ValueError(f"{name} has a setting that is no override: {key}")
    return found


def method_slug(toggles: Toggles) -> str:
    """Return the method's name as a folder name: "sqinv_lds_fds", "sqinv_lds_ks9_sigma1"."""
    return slug(method_name(toggles))


def subset_label(subset: Subset) -> str:
    """Return what stands in brackets behind a dataset's title: "2-PEAK SUBSET", "REMOVE=20–30,45–60"; "" for none."""
    if subset.name == "none":
        return ""
    ranges = {"KEEP": subset.keep, "REMOVE": subset.remove}
    said = [
        f"{key}={','.join(f'{_number(low)}–{_number(high)}' for low, high in pairs)}"
        for key, pairs in ranges.items()
        if pairs
    ]
    label = subset.title or ";".join(said) or f"SUBSET={subset.name.upper()}"
    return f"{label}, WITH REPLACEMENT" if subset.replace else label


def dataset_title(title: str, label: str) -> str:
    """Return a dataset's title with the label of its subset: "IMDB-WIKI-DIR [2-PEAK SUBSET]"."""
    return f"{title} [{label}]" if label else title


def dataset_name(name: str, label: str) -> str:
    """Return a dataset's name with the label of its subset, as a folder name: "imdb_wiki-2_peak_subset".

    Runs of one name share a table, so a subset's are never beside those of the whole.
    """
    signed = re.sub(r"-(?=\d)", "m", label)  # or the ranges -20–-10 and 20–10 would share a name
    return f"{name}-{slug(signed)}" if label else name


def slug(name: str) -> str:
    """Return a printed name as a folder name: lower case, words joined by underscores."""
    joined = re.sub(r"=(?=\d)", "", name.lower())
    return re.sub(r"[^a-z0-9.]+", "_", joined).strip("_.")


def identity(config: Mapping[str, Any], ignore: Iterable[str] = ()) -> str:
    """Return 10 hexadecimal digits that two configs share if, and only if, they can give the same numbers.

    It is the head of the SHA-256 of the config as canonical JSON. The order of keys does not count, nor does
    1 against 1.0, nor a tuple against a list; `True` is not 1, and "1" is not 1.

    Args:
        config: Nested plain values.
        ignore: Dotted keys left out with all that lies below them, such as "paths" or "trainer.workers".
    """
    canonical = json.dumps(_canonical(without(config, ignore)), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:10]


def without(config: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Return a copy of `config` as plain values, without these dotted keys and what lies below them."""
    copy: dict[str, Any] = plain(config)
    for dotted in keys:
        *parents, last = dotted.split(".")
        node: Any = copy
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node.pop(last, None)
    return copy


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each setting of a nested config as (dotted key, value); an empty group is a value."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _name_loss(toggles: Toggles, part: list[str], settings: list[str]) -> None:
    loss = toggles.loss
    if loss.startswith("focal_"):
        part.append("FOCAL-R")
        if loss != toggles.default_focal:
            settings.append(f"LOSS={loss.upper()}")
    elif loss != toggles.default_loss:
        settings.append(f"LOSS={loss.upper()}")


def _name_weights(toggles: Toggles, part: list[str], settings: list[str]) -> None:
    """Name the weighting, unless it is the one that the rest of the name implies in the paper."""
    smoothed = toggles.lds != "none"
    if toggles.stages != "none":
        implied = {"rrt": "inv", "crt": "class_balanced"}.get(toggles.stages, "none")
    elif toggles.resample != "none":
        implied = "none"  # there, LDS shapes the resampling
    elif smoothed and toggles.loss.startswith("focal_"):
        implied = toggles.lds_reweight
    elif smoothed and not part:
        implied = ""  # VANILLA + LDS always has weights, so their absence must be said
    else:
        implied = "none"
    if toggles.reweight == implied:
        return
    if toggles.reweight == "none":
        settings.append("REWEIGHT=NONE")
    elif toggles.reweight == "class_balanced" and toggles.head == "classification":
        part.append("CB")  # Table 20; as weights of a regression they are a row of no paper
    else:
        part.append(_REWEIGHTS.get(toggles.reweight, _upper(toggles.reweight)))


def _name_classes(toggles: Toggles, part: list[str], settings: list[str]) -> None:
    """Mark a classifier, unless the method exists for classifiers alone."""
    if part[0] not in ("CB", "CRT"):
        part[0] = f"CLS-{part[0]}"
    if toggles.decode != "argmax":
        settings.append(f"DECODE={toggles.decode.upper()}")


def _kernel_settings(toggles: Toggles) -> list[str]:
    """Return what differs from Gaussian, 5 and 2: said once if it holds for LDS and FDS, else for each."""
    lds = _kernel(toggles.lds, toggles.lds_kernel_size, toggles.lds_sigma)
    fds = _kernel(toggles.fds, toggles.fds_kernel_size, toggles.fds_sigma)
    if toggles.lds == "none" or toggles.fds == "none" or lds == fds:
        return lds or fds
    return [f"LDS.{setting}" for setting in lds] + [f"FDS.{setting}" for setting in fds]


def _kernel(name: str, size: int, sigma: float) -> list[str]:
    if name == "none":
        return []
    settings = [] if name == "gaussian" else [f"KERNEL={_KERNELS.get(name, name.upper())}"]
    if (size, sigma) != (_KERNEL_SIZE, _SIGMA):
        settings += [f"KS={size}", f"SIGMA={_number(sigma)}"]
    return settings


def _number(value: float) -> str:
    return repr(int(value) if float(value).is_integer() else float(value))


def _upper(name: str) -> str:
    return name.upper().replace("_", "-")


def _spelt(name: str) -> str:
    """Write a part's name, or its class's, as papers do: my_part is MY-PART, RankNContrast is RANK-N-CONTRAST."""
    return _upper(re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name))


def _canonical(value: Any) -> Any:
    """Return plain `value` with whole floats as integers, and NaN and infinities as their names."""
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and value.is_integer() else value
    return value


def names(config: Config) -> tuple[str, str]:
    """Return the name and the title of what a run is trained and tested on: the dataset, or its subset."""
    label = subset_label(config.subset)
    return dataset_name(config.dataset.name, label), dataset_title(config.dataset.title, label)
