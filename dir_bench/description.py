"""`dir-bench data describe`: what somebody's files are, what their labels look like, and a config to begin with."""

import re
import shlex
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dir_bench import config as configs
from dir_bench.atomic import write_text
from dir_bench.chosen import settle
from dir_bench.datasets.base import CheckReport, Dataset
from dir_bench.datasets.coverage import faults
from dir_bench.datasets.recognition import Found, Place, Recognising, Surveyable, shortened
from dir_bench.errors import UserError, nearest
from dir_bench.files.plain import NotThere, is_missing, read_plain
from dir_bench.files.values import visible
from dir_bench.inspection import histogram
from dir_bench.labels.choice import SPIKE
from dir_bench.own_config import yaml_text
from dir_bench.schema import Config
from dir_bench.task import Task, target_bins

METHODS = ("vanilla", "sqinv_lds", "sqinv_lds_fds")
"""What a first look compares: no remedy, weights, and the paper's two together."""
TAIL = 5.0
"""A tail is heavy where the last label lies so many times as far from the median as the 99th hundredth."""
PILE = 3.0
"""Labels pile up at a value that is so many times as frequent as those next to it."""
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
"""Endings of files that hold others."""
LONGEST, NARROWEST = 110, 50
"""Bounds on the characters of a line."""
_TO_CHOOSE = {
    "bins": {"choose": "width", "number": None, "start": None, "stop": None, "width": None, "edges": None},
    "regions": {"many_over": None, "few_under": None},
    "fds_first": 0,
    "fds_last": None,
}
"""Settings that leave everything about somebody's own labels to the rules of `chosen`."""

Targets = Mapping[str, npt.NDArray[np.floating[Any]]]


@dataclass(frozen=True)
class Description:
    """What was found, and what is to be written.

    Attributes:
        found: What the dataset says of the files.
        choice: The dataset, a choice of `dataset=`.
        name: What the data are called, a choice of `dataset=` once the config is written.
        config: The settled config.
        said: How bins and regions were chosen, in sentences.
        report: What the dataset found in them.
        folder: Where the config goes, a `--config-dir`.
        asked: The command that this is the answer to.
    """

    found: Found
    choice: str
    name: str
    config: Config
    said: tuple[str, ...]
    report: CheckReport
    folder: Path
    asked: str

    @property
    def file(self) -> Path:
        """The YAML."""
        return self.folder / "dataset" / f"{self.name}.yaml"

    @property
    def commands(self) -> tuple[str, ...]:
        """What to run, in order."""
        where = f"--config-dir {shlex.quote(str(self.folder))}"
        outputs = shlex.quote(f"outputs/{self.name}")
        first = [f"dir-bench data {self.found.once} {self.name} {where}"] if self.found.once else []
        return (
            *first,
            f"dir-bench data check {self.name} {where}",
            f"dir-bench train dataset={self.name} {where} method={METHODS[0]}",
            f"dir-bench sweep dataset={self.name} {where} method={','.join(METHODS)} && dir-bench table {outputs}",
        )

    @property
    def yaml(self) -> str:
        """Return what goes into the file: what the dataset's own YAML does not say."""
        heading = [f"{self.name}: {self.found.what}.", f"By `{self.asked}`; change what you like.",
                   *(f"Run:     {command}" for command in self.commands)]  # fmt: skip
        return yaml_text(self.choice, self.found, self.config, heading, self.said)

    def text(self, width: int) -> str:
        """Return all that there is to say, in lines of about `width` characters; commands are never broken."""
        width = min(max(width, NARROWEST), LONGEST)
        task = Task.of(self.config, lambda bins: bins.counts(self.report.targets["train"]))
        facts = [f"{key}: {value}" for key, value in self.report.facts.items()]
        parts = {
            f"What it is: {self.found.what} (dataset={self.choice})": [*facts, *self.found.notes],
            "Problems": self.problems(),
            "Suggested": [*self.said, *self._kernels()],
        }
        lines = []
        for title, sentences in parts.items():
            if sentences:
                lines += [*textwrap.wrap(visible(title), width), *_listed(sentences, width), ""]
        lines += [f"Labels ({self.config.dataset.label}) by region", histogram(task, width)]
        lines += [*_by_region(task, self.report.targets)]
        return "\n".join(visible(line, lines=True) for line in lines)

    def problems(self) -> list[str]:
        """Return what is doubtful in files and labels, a sentence each."""
        outside = faults(target_bins(self.config.dataset), self.report.targets)
        return [*self.found.problems, *self.report.problems, *outside, *doubts(self.report.targets["train"])]

    def _kernels(self) -> list[str]:
        """Say how far LDS and FDS smooth, in label units."""
        window = configs.choices("lds")["gaussian"]
        size, sigma = window["kernel_size"], window["sigma"]
        widths = np.diff(target_bins(self.config.dataset).edges)
        unit = self.config.dataset.label
        if np.allclose(widths, widths[0]):
            meant = f"{size * widths[0]:.4g} and {sigma * widths[0]:.4g} in {unit}"
        else:
            meant = f"bins are {widths.min():.4g} to {widths.max():.4g} {unit} wide"
        return [f"kernel of LDS and FDS: gaussian over {size} bins, sigma {sigma:g} bins, as published: {meant}; wider "
                f"for noisier labels (lds.kernel_size=9 lds.sigma=3, and fds. likewise)"]  # fmt: skip

    def write(self, *, force: bool) -> str:
        """Write the YAML, and return what was done; UserError rather than replace another, unless forced."""
        text = self.yaml
        if not is_missing(self.file):
            if read_plain(self.file) == text.encode():
                return f"{self.file} is there already, and says the same"
            if not force:
                raise UserError(
                    f"{self.file} is there, with other settings, and is left as it is: add --force to replace it, "
                    "--name NAME to write another, or --dry-run to see it"
                )
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.file, text)
        return f"wrote {self.file}"


def describe(
    path: Path,
    *,
    target: str | None = None,
    kind: str | None = None,
    name: str | None = None,
    folder: Path = Path("my_configs"),
) -> Description:
    """Look at a file or folder.

    Args:
        path: It.
        target: The column of targets; None: guessed, and said.
        kind: The choice of `dataset=` to read it with; None: the one that fits best.
        name: What to call the data; None: as the files are.
        folder: Where its config is to go; datasets of one's own in it are asked too.

    Raises:
        UserError: Nothing reads it, or what reads it finds it wrong.
    """
    own = str(folder) if folder.is_dir() else None
    asked = _askable(own)
    if kind is not None:
        if kind not in asked:
            raise UserError(f"--as {kind} is not one of {', '.join(asked)}{nearest(kind, asked)}")
        asked = {kind: asked[kind]}
    try:
        choice, found = _recognised(Place(path, target), asked)
        return _described(path, choice, found, name, folder, {"--target": target, "--as": kind, "--name": name})
    except NotThere as error:
        raise UserError(f"{error}: give the file or folder of your data") from error
    except UserError as error:
        if str(path) in str(error) or str(error).startswith("--"):
            raise
        raise UserError(f"{path}: {error}") from error


def _described(
    path: Path, choice: str, found: Found, name: str | None, folder: Path, given: Mapping[str, str | None]
) -> Description:
    options = (word for pair in given.items() if pair[1] is not None for word in pair)
    asked = shlex.join(["dir-bench", "data", "describe", str(path), *map(str, options)])
    name = _name(found.stem) if name is None else name
    if name in configs.options("dataset") or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
        raise UserError(f"--name {name}: take letters, digits and _, a letter first, and no name of `data list`")
    strange = re.search("[\ud800-\udfff]", f"{found.source}{found.label}")
    if strange:
        raise UserError(
            f"{path}: the name of a file or column holds bytes that are no UTF-8, which no YAML takes: rename it, or "
            "save the table as UTF-8"
        )
    config = _config(choice, found, name, str(folder) if folder.is_dir() else None)
    dataset: Dataset = configs.build(config.dataset.source)
    report = dataset.survey() if isinstance(dataset, Surveyable) else dataset.check()
    if not len(report.targets.get("train", ())):
        raise UserError(next(iter(report.problems), f"{path} has no training targets that can be told beforehand"))
    config, said = settle(config, dataset)
    if not said:
        said = (f"bins and regions: those of dataset={choice}, whose labels these are",)
    return Description(found, choice, name, config, said, report, folder, asked)


def _askable(config_dir: str | None) -> dict[str, type[Recognising]]:
    """Return the datasets that recognise files, by the choice of `dataset=` that states each."""
    asked: dict[str, type[Recognising]] = {}
    for name, target in configs.targets("dataset", config_dir).items():
        made = configs.resolve_target({"_target_": target})
        if "recognise" in vars(made) and made not in asked.values():
            asked[name] = made
    return asked


def _recognised(place: Place, asked: Mapping[str, type[Recognising]]) -> tuple[str, Found]:
    """Return the dataset that knows best what lies there, and what it says."""
    found: dict[str, Found] = {}
    wrong: list[UserError] = []
    for name, made in asked.items():
        try:
            seen = made.recognise(place)
        except UserError as error:
            wrong.append(error)
        else:
            found |= {} if seen is None else {name: seen}
    if found:
        best = max(found, key=lambda name: found[name].fits)
        return best, found[best]
    if wrong:
        raise wrong[0]
    packed = [file.name for file in place.files if file.name.lower().endswith(ARCHIVES)]
    if packed:
        raise UserError(
            f"{place.path} holds {shortened(packed)}, which nothing looks into: unpack it, and describe that"
        )
    looked_for = "; ".join(f"{made.looks_for} ({name})" for name, made in asked.items())
    raise UserError(
        f"{place.path} holds nothing that can be read; looked for: {looked_for}; name its files so, or convert them "
        "(`dir-bench data describe --help`)"
    )


def _config(choice: str, found: Found, name: str, config_dir: str | None) -> Config:
    """Return the dataset's config with these files, its bins still to be chosen where labels are somebody's own."""
    backbone = [f"backbone={found.backbone}"] if found.backbone else []
    shipped = choice in configs.options("dataset")
    config = configs.compose([f"dataset={choice}", *backbone], None if shipped else config_dir)
    own: dict[str, Any] = {"name": name, "title": name, "source": dict(found.source)}
    if config.dataset.own:
        own |= _TO_CHOOSE
    if found.label:
        own["label"] = found.label
    config = configs.changed(config, {"dataset": own})
    configs.check_dataset(config)
    return config


def _name(stem: str) -> str:
    """Make a name that `dataset=` takes, and that none of the shipped ones has."""
    name = re.sub(r"[^A-Za-z0-9_]+", "_", stem).strip("_")[:60]
    shipped = {each.lower() for each in configs.options("dataset")}
    words = ("", "null", "true", "false", "none", "nan", "inf", "yes", "no", "on", "off")
    return f"my_{name or 'data'}" if name.lower() in (*shipped, *words) or not name[0].isalpha() else name


def doubts(targets: npt.ArrayLike) -> Iterator[str]:
    """Tell, a sentence each, of a tail that few labels stretch, and of labels that pile up at an end or at zero.

    Args:
        targets: Training targets, label units, shape ``(n,)``.
    """
    values = np.asarray(targets, np.float64)
    low, middle, high = np.quantile(values, [0.01, 0.5, 0.99])
    for end, most, where in ((high, values.max(), "below"), (low, values.min(), "above")):
        if abs(most - middle) > TAIL * abs(end - middle) > 0:
            yield (
                f"a heavy tail: 99 % of the targets lie {where} {end:g}, and the furthest at {most:g}: check those "
                "few, whose errors weigh most in training (loss=l1 and loss=huber bear it better than loss=mse)"
            )
    distinct, counts = np.unique(values, return_counts=True)
    for value in sorted({0.0, distinct[0], distinct[-1]} & set(distinct.tolist())):
        place = int(np.searchsorted(distinct, value))
        count, beside = counts[place], max([*counts[place - 1 : place], *counts[place + 1 : place + 2]], default=0)
        if count >= SPIKE * len(values) and count > PILE * beside:
            kind = "zero-inflated" if value == 0 else "cut off or filled up there"
            yield (
                f"{count / len(values):.0%} of the training targets are exactly {value:g}: labels may be {kind}; "
                "few-shot errors then speak of the others"
            )


def _listed(sentences: list[str], width: int) -> list[str]:
    wrapped = (textwrap.wrap(visible(text), width - 2, break_on_hyphens=False) for text in sentences)
    return [("  " if place else "- ") + line for lines in wrapped for place, line in enumerate(lines)]


def _by_region(task: Task, targets: Targets) -> list[str]:
    """Return how many samples of each split lie in the bins of each region."""
    lines = []
    for name, values in targets.items():
        region = task.regions.codes[task.bins.index(np.asarray(values, np.float32))]
        shares = ", ".join(
            f"{int((region == code).sum())} {shot}" for code, shot in enumerate(("many", "medium", "few"))
        )
        lines.append(f"{name:<5} {len(values)}: {shares}")
    return lines
