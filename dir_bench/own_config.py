"""The YAML of somebody's own data: what the YAML that it begins with does not say, each choice with its reason."""

import textwrap
from collections.abc import Sequence
from typing import Any

from dir_bench.config.words import literal
from dir_bench.datasets.recognition import Found
from dir_bench.files.values import visible
from dir_bench.schema import Config

WIDTH = 116


def yaml_text(choice: str, found: Found, config: Config, heading: Sequence[str], said: Sequence[str]) -> str:
    """Return the text of `dataset/NAME.yaml`.

    Args:
        choice: The dataset that it begins with.
        found: The settings of its source.
        config: The settled config, for names, bins and regions.
        heading: Sentences and commands at the top; commands are not wrapped.
        said: How bins and regions were chosen.
    """
    dataset = config.dataset
    lines = ["# @package _global_"]
    for text in heading:
        lines += _comment(text) if not text.startswith("Run:") else [f"# {visible(text)}"]
    lines += ["defaults:", f"  - {choice}"]
    if found.backbone:
        lines.append(f"  - override /backbone: {found.backbone}")
    lines += ["", "dataset:", f"  name: {_value(dataset.name)} # the folder of its runs in outputs/"]
    lines.append(f"  title: {_value(dataset.title)}")
    if found.label:
        lines.append(f"  label: {_value(found.label)} # what figures call the target: add its unit")
    lines += ["  source:", *(f"    {key}: {_value(value)}" for key, value in found.source.items())]
    if dataset.own:
        bins = dataset.bins
        lines += [line for text in said for line in _comment(text, "  ")]
        if bins.edges is not None:
            lines.append(f"  bins: {_value({'edges': bins.edges})}")
        else:
            lines.append(f"  bins: {{start: {bins.start!r}, stop: {bins.stop!r}, width: {bins.width!r}, choose: none}}")
        lines += [f"  fds_first: {dataset.fds_first}", f"  fds_last: {dataset.fds_last} # the last bin, from 0"]
        many, few = dataset.regions.many_over, dataset.regions.few_under
        lines.append(f"  regions: {{many_over: {many:g}, few_under: {few:g}}} # training samples of a bin")
    return "\n".join(lines) + "\n"


def _comment(text: str, indent: str = "") -> list[str]:
    wrapped = textwrap.wrap(visible(text), WIDTH - len(indent), break_long_words=False, break_on_hyphens=False)
    return [f"{indent}# {line}" for line in wrapped]


def _value(value: Any) -> str:
    """Write a value on one line, so that neither YAML nor OmegaConf reads anything else in it."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Quotes text such as 1e3, a number to OmegaConf and none to PyYAML."""

    def write(dumper: Any, text: str) -> Any:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="'" if _like_number(text) else None)

    Dumper.add_representer(str, write)
    text: str = yaml.dump(
        literal(value), Dumper=Dumper, default_flow_style=True, width=float("inf"), allow_unicode=True
    )
    return text.rstrip("\n").removesuffix("\n...")


def _like_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
