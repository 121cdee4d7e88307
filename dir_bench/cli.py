"""The `dir-bench` command: verbs that call the library. Nothing heavy is imported before a verb needs it."""

import argparse
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from io import TextIOWrapper
from pathlib import Path

from dir_bench import commands, cycles
from dir_bench.errors import UserError, last_line, nearest, of_disk
from dir_bench.files.values import visible
from dir_bench.logs import log_to_stderr

VERBS = """\
dir-bench: run and compare methods of deep imbalanced regression

  dir-bench train [KEY=VALUE ...]        train one run; -m sweeps over comma lists; --help lists what can be chosen
  dir-bench sweep NAME [KEY=VALUE ...]   run what is left of a table or ablation; --dry-run prints the plan only
  dir-bench evaluate RUN                 evaluate a run's checkpoint again, or with --checkpoint a published one
  dir-bench predict RUN FILES|CSV        what a trained network says of new samples, as a csv
  dir-bench table [RUNS ...]             mean and 95 % interval over seeds, by region, beside the published numbers
  dir-bench plot NAME [RUNS ...]         a figure of finished runs; --help lists them
  dir-bench report OUT.html [RUNS ...]   one page: tables, figures, each run's config and the command that repeats it
  dir-bench data describe FILE|FOLDER    your own data: what it is, its labels, and a config to begin with
  dir-bench data list                    the datasets, what each needs and whether it is there
  dir-bench data fetch NAME              download what can be had freely; says what must be asked for
  dir-bench data split NAME              rebuild a benchmark's splits from its raw files
  dir-bench data prepare NAME            turn raw recordings into features, once; goes on where it was stopped
  dir-bench data check NAME              verify a dataset's files, show its labels by region
  dir-bench data sample NAME             write a small stand-in in the real on-disk format

Start here (a minute on two cores, nothing to download):
  dir-bench train
  dir-bench train -m method=vanilla,sqinv_lds trainer.epochs=1 && dir-bench table --metrics mae

`dir-bench VERB --help` says more of each. Exit codes: 0 all is well, 1 a run failed, 2 a mistake in what was asked.
"""

_TRAIN_HELP = """\
dir-bench train: train one run, or a sweep with -m, and print its errors by region.

== What can be chosen (GROUP=CHOICE) ==
{choices}

== What can be set (KEY=VALUE) ==
seed=0  paths.data=data  paths.outputs=outputs
trainer.epochs  trainer.max_steps  trainer.batch_size  trainer.eval_every  trainer.patience  trainer.devices
lds.kernel_size  lds.sigma  fds.kernel_size  fds.sigma  fds.momentum  fds.statistics  optimizer.lr
and every other key that `dir-bench train --cfg job` prints.

== Examples ==
dir-bench train                                                 the embedded dataset, a minute
dir-bench train method=sqinv_lds_fds seed=1                     a row of the paper's tables, by name
dir-bench train dataset=sts_b reweight=inv lds=gaussian         the toggles one by one
dir-bench train dataset=imdb_wiki subset=skew_2                 a training set with gaps; zero-shot regions
dir-bench train -m method=vanilla,sqinv_lds seed=0,1,2          a sweep; finished runs are skipped
dir-bench train semantics=paper semantics.fds_lag=alias         the paper's reading, but for one quirk
dir-bench train dataset=sts_b --cfg job                         print the config, train nothing

A run is a folder, outputs/<dataset>/<method>/<identity>/. The same command resumes an interrupted run.
"""

_SWEEP_HELP = """\
examples:
  dir-bench sweep gauge_table --dry-run                          how many jobs, how many are done, how long the rest
  dir-bench sweep gauge_table hydra/launcher=local               as many processes as this machine has GPUs or cores
  dir-bench sweep gauge_table hydra/launcher=local hydra.launcher.n_jobs=2 hydra.launcher.threads=4
  dir-bench sweep gauge_table seed=0 optimizer.lr=1e-3,3e-4      axes of your own; they win over the file's
  dir-bench sweep gauge_table hydra/launcher=submitit_slurm      on Slurm: pip install 'dir-bench[slurm]'
  dir-bench sweep gauge_table hydra/launcher=ray                 on Ray: pip install 'dir-bench[ray]'

A job that fails does not stop the others. The same command again runs what is left; an interrupted run goes on from
its last checkpoint. Exit codes: 0 all is done, 1 a run failed, 2 a mistake in what was asked.

sweeps (configs/sweep/):
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    _open_streams()
    try:
        code = _main([_at_home(word) for word in (sys.argv[1:] if arguments is None else arguments)])
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # who reads has seen enough, as `| head` has
        code = 128 + signal.SIGPIPE
    except OSError as error:
        code = _say(of_disk(error))
    try:
        sys.stdout.flush()
    except OSError:  # Python would complain once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _open_streams() -> None:
    """Let output go nowhere if it was closed, as a daemon's is, and show "?" for letters that its encoding lacks."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # until the process ends
        elif isinstance(stream, TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="replace")


def _at_home(word: str) -> str:
    """Put the home folder for the `~` of `--data=~/x` or `paths.data=~/x`: shells do so where a word begins with it."""
    key, is_set, value = word.partition("=")
    return f"{key}={os.path.expanduser(value)}" if is_set and value.startswith("~") else word


def _main(arguments: list[str]) -> int:
    log_to_stderr()
    verbs: dict[str, Callable[[list[str]], int]] = {
        "train": train,
        "sweep": sweep,
        "evaluate": evaluate,
        "predict": commands.predict,
        "table": commands.table,
        "plot": commands.plot,
        "report": commands.report,
        "data": data,
    }
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(VERBS, end="")
        return 0
    if arguments[0] == "--version":
        from dir_bench import __version__

        print(f"dir-bench {__version__}")
        return 0
    verb, rest = arguments[0], arguments[1:]
    try:
        if verb not in verbs:
            raise UserError(f"no verb '{verb}'{nearest(verb, verbs)}: {', '.join(verbs)}; see `dir-bench --help`")
        return verbs[verb](rest)
    except UserError as error:
        return _say(error)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on", file=sys.stderr)
        return 130


def train(arguments: list[str]) -> int:
    """Check the config (of every job of a sweep), then train; flags are Hydra's."""
    with cycles.unsought():
        from dir_bench import config

    parser = config.args_parser()
    parser.prog = "dir-bench train"
    asked = parser.parse_intermixed_args(arguments)
    _check_config_dir(asked.config_dir)
    overrides = config.as_typed(asked.overrides, sweep=asked.multirun)
    if asked.help:
        print(_TRAIN_HELP.format(choices=config.described()))
        return 0
    config.check_flags(asked)
    if asked.multirun:
        return _sweep(overrides, asked.config_dir)
    if not asked.hydra_help:
        named = next((a.split("=")[1] for a in overrides if a.startswith(("+sweep=", "sweep="))), None)
        if named:
            raise UserError(f"+sweep={named} is many runs: add -m, or take `dir-bench sweep {named}`")
    if not all(value in (None, False) for flag, value in vars(asked).items() if flag not in _RUN_FLAGS):
        # Hydra wants its flags before the overrides; people write them anywhere.
        flags = [word for word in arguments if word not in asked.overrides]
        if asked.cfg:
            config.compose(overrides, asked.config_dir)
        config.hydra_main([*flags, *overrides])
        return 0
    with cycles.unsought():
        job = config.compose_job(overrides, asked.config_dir)
        from dir_bench.resolved import resolve

        run = resolve(job.config)  # data that are missing are said before Hydra makes ready
    from dir_bench.sweeps.job import TrainJobs

    task = TrainJobs(run=run)
    stopped = _until_stopped(partial(job.run, task))
    return max((result.exit_code for result in task.results), default=0) if stopped is None else stopped


_RUN_FLAGS = ("overrides", "config_dir", "run", "multirun")
"""What Hydra's flags leave to a run; with any other, Hydra shows something instead of running."""


def sweep(arguments: list[str]) -> int:
    """Run all jobs of a table, an ablation or a grid of your own that are not done yet; print the plan first.

    A sweep is a file, configs/sweep/NAME.yaml; comma lists in KEY=VALUE add axes to it, and win over its own.
    """
    from dir_bench import config

    parser = argparse.ArgumentParser(
        "dir-bench sweep",
        usage="dir-bench sweep [NAME] [KEY=VALUE ...] [--dry-run] [--config-dir DIR]",
        description=sweep.__doc__,
        epilog=_SWEEP_HELP + _described_sweeps(config.config_dir() / "sweep"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="*", metavar="NAME | KEY=VALUE", help=argparse.SUPPRESS)
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    parser.add_argument(
        "--config-dir", metavar="DIR", help="a folder of your own beside configs/ (DIR/sweep/NAME.yaml)"
    )
    asked = parser.parse_intermixed_args(arguments)
    _check_config_dir(asked.config_dir)
    overrides = [word for word in asked.what if "=" in word or word.startswith("~")]
    names = [word for word in asked.what if word not in overrides]
    if len(names) > 1 or not asked.what:
        there = ", ".join(config.options("sweep"))
        raise UserError(f"name one sweep, not {len(names)}: {there}; or give comma lists, such as seed=0,1,2")
    overrides = [*(f"+sweep={name}" for name in names), *overrides]
    overrides = config.as_typed(overrides, sweep=True)
    return _sweep(overrides, asked.config_dir, planned=True, dry_run=asked.dry_run)


def _check_config_dir(folder: str | None) -> None:
    if folder and not Path(folder).is_dir():
        raise UserError(f"--config-dir {folder} is not a folder")


def _sweep(overrides: list[str], config_dir: str | None, planned: bool = False, dry_run: bool = False) -> int:
    """Plan, launch what is left, and say what came of it; `planned`: print the plan, and keep jobs' prints in files."""
    from dir_bench import config
    from dir_bench.sweeps import plan
    from dir_bench.sweeps.job import TrainJobs, Watch, failures, summary

    asked = config.sweep_of(overrides, config_dir)
    if asked is None:
        raise UserError("hydra/sweeper: only `grids` (the default) is known here; drop the override")
    jobs = config.sweep_jobs(overrides, asked.grids)
    if asked.stand_ins:
        from dir_bench.sweeps import stand_ins

        stand_ins.write(asked.stand_ins, jobs, config_dir)
    made = plan.make(jobs, config_dir)
    if planned:
        print(made.text(), flush=True)
    if dry_run or (planned and not made.left):
        return 0
    left = made.left if planned else made.jobs
    task = TrainJobs(left, sweep=True, quiet=planned)
    with ExitStack() as stack:
        if planned:
            stack.enter_context(Watch(made))
        try:
            stopped = _until_stopped(partial(config.multirun, overrides, config_dir, task))
        except KeyboardInterrupt:
            print("\nstopped; what was running has saved, and the same command goes on", file=sys.stderr)
            stopped = 130
    failed = failures(left, task.results, stopped is not None)
    print(summary(made, failed), file=sys.stdout if planned else sys.stderr)
    if task.launch_error is not None:
        error = task.launch_error
        why = of_disk(error) if isinstance(error, OSError) else error
        print(f"the launcher ended early: {last_line(why)}", file=sys.stderr)
    if stopped is not None:
        return stopped
    return max((result.exit_code for _, result in failed), default=1 if task.launch_error else 0)


def _until_stopped(run: Callable[[], None]) -> int | None:
    """Run something; return an exit code if a signal ended it."""
    from dir_bench.interrupt import Interrupted

    try:
        run()
    except Interrupted as stop:
        print(f"{stop}; nothing is lost: the same command goes on from there", file=sys.stderr)
        return stop.exit_code
    return None


def _described_sweeps(folder: Path) -> str:
    """Return the sweeps that are there, each with the first line of its comment."""
    lines = []
    for path in sorted(folder.glob("*.yaml"), key=_natural):
        comments = [line[2:] for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# ")]
        lines.append(f"  {path.stem:<24} {next((c for c in comments if not c.startswith('@')), '')}")
    return "\n".join(lines)


def _natural(path: Path) -> list[str | int]:
    """Order table2 before table10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.stem)]


def evaluate(arguments: list[str]) -> int:
    """Evaluate a run's selected checkpoint on its test split again, or one that the published code wrote."""
    parser = argparse.ArgumentParser("dir-bench evaluate", description=evaluate.__doc__)
    parser.add_argument(
        "what",
        nargs="+",
        metavar="RUN | KEY=VALUE",
        help="run folders, such as outputs/gauge/vanilla/0123456789; with --checkpoint, settings as for "
        "`dir-bench train`, such as dataset=agedb",
    )
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="a checkpoint of the published code (.pth.tar)")
    commands.add_evaluation(parser)
    asked = parser.parse_intermixed_args(arguments)
    from dir_bench import config, experiment
    from dir_bench.results import repeated
    from dir_bench.results.render import as_text, region_table
    from dir_bench.results.store import RunFolder

    if asked.checkpoint is not None:
        settings = config.compose(asked.what)
        settings.trainer.accelerator = asked.accelerator or settings.trainer.accelerator
        print(as_text(region_table(experiment.evaluate_official(settings, asked.checkpoint))), end="")
        return 0
    code = 0
    for run in map(Path, asked.what):
        if len(asked.what) > 1:
            print(f"\n{run}")
        metrics = experiment.evaluate(run, asked.accelerator, asked.data, asked.trust)
        print(as_text(region_table(metrics)), end="")
        if RunFolder(run).state != "done":
            continue
        held, again = experiment.recorded(run)["test"], metrics["test"]
        if repeated.repeats(held, again):
            print("equal to the recorded metrics.json")
        elif other := repeated.far_off(held, again):
            print(f"differs from the recorded metrics.json: {other}")
            code = 1
        else:
            print("differs in its digits from the recorded metrics.json")
    return code


def data(arguments: list[str]) -> int:
    """Describe your own data; list, fetch, split, prepare, check and make samples of datasets."""
    parser = argparse.ArgumentParser("dir-bench data", description=data.__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    commands.add_describe(actions)
    listing = actions.add_parser("list", help="the datasets, what each needs and whether it is there")
    check = actions.add_parser("check", help="verify a dataset's files, show its labels by region")
    sample = actions.add_parser("sample", help="write a small stand-in in the real on-disk format")
    fetch = actions.add_parser("fetch", help="download what can be had freely; says what must be asked for")
    split = actions.add_parser("split", help="rebuild a benchmark's splits from its raw files")
    prepare = actions.add_parser("prepare", help="turn raw recordings into features, once")
    for action in (check, sample, fetch, split, prepare):
        action.add_argument("name", help="the dataset's name, as in `dir-bench data list`")
    for action in (listing, check, sample, fetch, split, prepare):
        action.add_argument("--data", help="where the datasets lie (default: $DIR_BENCH_DATA, else data)")
    sample.add_argument("--size", type=int, help="number of samples (of pairs and frames: of those for training)")
    fetch.add_argument("--mirror", metavar="URL", help="take the files, under their own names, from this address")
    fetch.add_argument(
        "--from", dest="archive", type=Path, metavar="FILE", help="unpack a tar or zip that you have, download nothing"
    )
    split.add_argument("--seed", type=int, help="of the draw (default: the published one, or 0 where there was none)")
    for action in (listing, check, split, prepare):
        action.add_argument("--config-dir", metavar="DIR", help="a folder of your own beside configs/")
    for action in (check, prepare):
        action.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings as for `dir-bench train`")
    # argparse takes positionals in one stretch only; people write settings after options too.
    asked, more = parser.parse_known_args(arguments)
    settings = getattr(asked, "settings", None)
    if any(settings is None or word.startswith("-") for word in more):
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    settings = [*(settings or []), *more]
    _check_config_dir(getattr(asked, "config_dir", None))
    if asked.action == "describe":
        return commands.describe(asked)
    from dir_bench import inspection

    if asked.action == "list":
        print(inspection.list_datasets(asked.data, asked.config_dir))
        return 0
    if asked.action == "sample":
        print(f"wrote {inspection.sample(asked.name, asked.data, asked.size)}")
        return 0
    if asked.action == "fetch":
        print(inspection.fetch(asked.name, asked.data, asked.mirror, asked.archive))
        return 0
    if asked.action == "split":
        print(f"wrote {inspection.split(asked.name, asked.data, asked.seed, asked.config_dir)}")
        return 0
    look = inspection.prepare if asked.action == "prepare" else inspection.check
    text, problems = look(asked.name, asked.data, settings, asked.config_dir)
    print(text)
    for problem in problems:
        print(f"problem: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _say(error: Exception) -> int:
    print(f"error: {visible(str(error), lines=True)}", file=sys.stderr)
    return getattr(error, "exit_code", 1)


if __name__ == "__main__":
    sys.exit(main())
