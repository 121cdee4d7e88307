"""Errors of Hydra and OmegaConf as one sentence that names the nearest valid key or choice."""

import re
import shlex
from collections.abc import Callable, Iterable

from hydra.core.config_store import ConfigStore
from hydra.errors import OverrideParseException

from dir_bench.config.files import groups, options
from dir_bench.config.words import quoted
from dir_bench.errors import nearest

FREE_FORM = ("backbone", "optimizer", "dataset.source", "schedule.source", "parts", "stages.first")
"""Nodes whose keys are those of a `_target_`, or of changes to come, and not of the schema."""

EXTRAS = {"slurm": "submitit", "ray": "ray"}
"""Extras of this package, each with what its launchers are called."""

_WRONG_KIND = {
    "is not Optional": "cannot be: it needs a value",
    "converted to Integer": "must be a whole number",
    "converted to Float": "must be a number",
    "not a valid bool": "must be true or false",
    "to string": "must be text",
    "not a ListConfig|with ListConfig": "must be a list, as in [1,2]",
    "not a subclass of|Cannot assign .* to Dict": "cannot be: it has keys of its own, to be set one by one",
}
"""What OmegaConf says of a value of another kind than the schema's, and how it goes on from KEY=VALUE in our words."""


def explain(error: Exception, keys: Callable[[], Iterable[str]] = tuple) -> str:
    """Put a Hydra or OmegaConf error into one sentence.

    Args:
        error: What composing raised.
        keys: Gives the dotted keys there are, where the sentence needs them.
    """
    text = str(error)
    missing = re.search(r"Could not find '([^']+)'", text)
    if missing and "/" in missing[1]:
        return _no_such_choice(*missing[1].rsplit("/", 1))
    if bare := re.search(r"In '(sweep/[^']+)'.*Key 'sweep' not in", text, re.DOTALL):
        return f"{bare[1]}.yaml does not say that it is a sweep: its first line has to be `# @package hydra.sweeper`"
    if bare := re.search(r"In '([^']+)'.*Key '([^']+)' not in 'Config'", text, re.DOTALL):
        return (
            f"{bare[1]}.yaml sets '{bare[2]}', which is no key of a config: a file that sets keys of all of it, as "
            "those of method do, has the first line `# @package _global_`"
        )
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override, text)
    key = re.search(r"Could not override '([^']+)'", text) or re.search(r"full_key: (\S+)", text)
    if key and ("not in struct" in text or "Could not override" in text):
        known = [*groups(), *keys()]
        within = re.search(r"Key '([^']+)' not in", str(error.__cause__))
        if key[1] in known and within:  # in an item of a list
            return f"unknown key '{within[1]}' in {key[1]}: `dir-bench train --cfg job` prints those that there are"
        return _no_such_key(key[1], known)
    if "sweep" in text.lower() and "," in text:
        return f"{text.splitlines()[0].rstrip('.')}: a list of values is a sweep, add -m (or quote it as '[a,b]')"
    if text.startswith("Error merging override") and error.__cause__ is not None:
        override = text.splitlines()[0].removeprefix("Error merging override ")
        wanted = next((says for pattern, says in _WRONG_KIND.items() if re.search(pattern, str(error.__cause__))), None)
        if wanted is not None:
            return f"{override} {wanted}"
        text = f"{text.splitlines()[0]}: {error.__cause__}"
    if "Interpolation key" in text:
        text = f"{text.splitlines()[0]}: type \\${{ for a ${{ that means itself"
    first = " ".join(line.strip() for line in text.splitlines()[:2] if line.strip() and "full_key" not in line)
    return f"{key[1]}: {first}" if key else first


def free_form(key: str) -> str | None:
    """Return the node of `FREE_FORM` that a dotted key is, or lies in."""
    return next((node for node in FREE_FORM if key == node or key.startswith(f"{node}.")), None)


def _no_such_key(key: str, known: Iterable[str]) -> str:
    if key.startswith("hydra.launcher."):
        name, local = key.removeprefix("hydra.launcher."), ConfigStore.instance().load("hydra/launcher/local.yaml").node
        known = [setting for setting in map(str, local) if not setting.startswith("_")]
        there = ", ".join(known)
        return f"the chosen launcher has no setting '{name}'{nearest(name, known)}; hydra/launcher=local has {there}"
    if key.startswith("hydra."):
        return f"unknown key '{key}' of Hydra's own settings; `dir-bench train --cfg hydra` prints them"
    node = free_form(key)
    if node is None or node == key:
        return f"unknown config key '{key}'{nearest(key, known)}; `dir-bench train --cfg job` prints all keys"
    beside = nearest(key, (other for other in known if other.startswith(f"{node}.") and other != key))
    return f"unknown config key '{key}'{beside}; +{key}=… gives {node} a setting that its file does not have"


def _no_such_choice(group: str, name: str) -> str:
    if group == "hydra/launcher":
        there = sorted(path.removesuffix(".yaml") for path in ConfigStore.instance().list(group))
        extra = next((f"; pip install 'dir-bench[{e}]' adds it" for e, n in EXTRAS.items() if n in name), "")
        return f"{group}={name} is not installed{nearest(name, there)}{extra}; there are: {', '.join(there)}"
    there = options(group)
    return f"{group}={name} does not exist{nearest(name, there)}; {group} can be: {', '.join(there)}"


def _unreadable(override: str, text: str) -> str:
    """Say what Hydra's grammar stumbled over, and how the word has to be typed if it is meant as text."""
    lines = [line.strip() for line in text.splitlines()]
    why = next((line for line in lines if line and not line.lower().startswith("error parsing")), "").rstrip(".")
    why = "" if why == override or "LexerNoViableAlt" in why else f" ({why})"
    key, is_set, value = override.partition("=")
    if not is_set:
        return f"'{override}' is not KEY=VALUE{why}"
    word = f"{key}={quoted(value)}"
    typed = shlex.quote(word) if set(word) & set('"$`!\\') else f'"{word}"'
    return f"{override} cannot be read{why}: if the value is text, type it in quotes of its own, as in {typed}"
