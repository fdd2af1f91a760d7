"""The `fastbp` command: its arguments, its subcommands, and one sentence for everything that can be wrong."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

import fastbp
from fastbp import nn, optim
from fastbp.cli import bench, explain
from fastbp.cli import network as networks
from fastbp.cli.outputs import check_out
from fastbp.cli.sources import SOURCES, TASKS, read_evaluation, read_inputs, read_problem
from fastbp.data import Batches, Scaling
from fastbp.examples import PICTURES
from fastbp.optim.lr_scheduler import CosineAnnealingLR
from fastbp.train import Run, accuracy, fit

# The optimizer of each name and the learning rate that its cosine schedule starts from.
OPTIMIZERS: dict[str, tuple[Callable[..., Any], float]] = {
    "adam": (optim.Adam, 2e-3),
    "adamw": (optim.AdamW, 2e-3),
    "sgd": (lambda parameters, lr: optim.SGD(parameters, lr=lr, momentum=0.9), 5e-2),
    "rmsprop": (optim.RMSprop, 1e-3),
    "adagrad": (optim.Adagrad, 2e-2),
}
LARGE = 10_000  # rows from which batches are larger by default
STEPS = 3_000  # optimizer steps that a small set of rows gets by default

Arguments = argparse.Namespace


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, 2 for wrong usage, 1 for anything else wrong, 130 after Ctrl-C."""
    try:
        parsed = _parser().parse_args(arguments)
        status = parsed.run(parsed)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The reader of our output has left, as `head` does. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        named = error.filename is not None and error.strerror
        return _fail(f"{error.filename}: {error.strerror}" if named else str(error))
    except (ValueError, ArithmeticError, fastbp.CheckError) as error:
        return _fail(str(error))
    except MemoryError:
        return _fail("not enough memory for this network and batch size")
    except KeyboardInterrupt:
        return _interrupted()


def _fail(sentence: str) -> int:
    print(f"fastbp: {' '.join(sentence.split())}", file=sys.stderr)
    return 1


def _interrupted() -> int:
    print("fastbp: interrupted, nothing was saved", file=sys.stderr)
    return 130


def train(arguments: Arguments) -> int:
    """Train a network, report its test accuracy or error, and save it."""
    problem = read_problem(arguments.data, arguments.task)
    out = arguments.out or Path(arguments.data).stem + ".safetensors"
    check_out("--out", out)
    if os.path.exists(out) and os.path.exists(arguments.data) and os.path.samefile(out, arguments.data):
        raise ValueError(f"--out: {out!r} is the data itself")
    classes = problem.classes
    continuous = problem.y_train.reshape(len(problem.y_train), -1)
    target = None if classes is not None else Scaling.standardised(continuous)
    outputs = continuous.shape[1] if classes is None else len(classes)
    sizes = (problem.x_train.shape[1], *arguments.hidden, outputs)
    network = networks.Network(sizes, arguments.activation, problem.scaling, classes, target, arguments.data)
    x, y = network.inputs(problem.x_train), network.targets(problem.y_train)

    batch = arguments.batch or (128 if len(x) >= LARGE else 32)
    batches = Batches(x, y, batch_size=batch, shuffle=True, seed=arguments.seed)
    epochs = arguments.epochs or max(10, math.ceil(STEPS / len(batches)))
    make, lr = OPTIMIZERS[arguments.optimizer]
    lr = arguments.lr or lr
    if arguments.threads:
        fastbp.set_num_threads(arguments.threads)
    fastbp.manual_seed(arguments.seed)
    model = network.build()
    optimizer = make(model.parameters(), lr=lr)

    what = f"{outputs} classes" if classes is not None else f"{outputs} continuous target{'s'[: outputs > 1]}"
    rows = f"{len(x)} rows to train, {len(problem.x_test)} held out"
    print(f"data: {arguments.data}, {rows}, {x.shape[1]} inputs, {what}")
    print(f"model: {'-'.join(map(str, sizes))} {arguments.activation}")
    print(
        f"training: {arguments.optimizer}, learning rate {lr:g} falling to 0 by a cosine, batches of {batch}, "
        f"{epochs} epochs, seed {arguments.seed}",
        flush=True,
    )
    history = fit(
        model,
        nn.CrossEntropyLoss() if classes is not None else nn.MSELoss(),
        optimizer,
        batches,
        epochs,
        metrics=[accuracy] if classes is not None else [],
        scheduler=CosineAnnealingLR(optimizer, T_max=epochs * len(batches)),
        schedule="batch",
        callbacks=[] if sys.stderr.isatty() else [_print_epoch],
    )
    if history.interrupted:
        return _interrupted()
    print(_score(network, model, problem.x_test, problem.y_test))
    network.save(model, out)
    print(f"saved: {out}")
    return 0


def evaluate(arguments: Arguments) -> int:
    """Report the test accuracy or error of a saved network."""
    network, model = networks.load(arguments.model)
    source = arguments.data or network.data
    task = "classification" if network.classes is not None else "regression"
    x, y = read_evaluation(source, task, whole=arguments.data is not None)
    print(f"data: {source}, {len(x)} rows")
    print(_score(network, model, x, y))
    return 0


def predict(arguments: Arguments) -> int:
    """Print a saved network's answer for every row of a file."""
    network, model = networks.load(arguments.model)
    answers = network.answers(model, read_inputs(arguments.file, network.sizes[0]))
    if answers.ndim == 1:
        answers = answers[:, None]
    for row in answers.tolist():
        print(",".join(f"{value:.7g}" if isinstance(value, float) else str(value) for value in row))
    return 0


def info(arguments: Arguments) -> int:
    """Print what this installation runs on."""
    facts = fastbp.info()
    print("\n".join(f"{name}: {value}" for name, value in facts.items()) if isinstance(facts, dict) else facts)
    return 0


def _score(network: networks.Network, model: Any, x: np.ndarray, y: np.ndarray) -> str:
    answers = network.answers(model, x)
    if answers.shape != y.shape:
        raise ValueError(f"expected targets of shape {answers.shape}, as in training, got {y.shape}")
    if network.classes is not None:
        return f"test accuracy: {100 * np.mean(answers == y):.2f} %"
    return f"test error: {np.sqrt(np.mean(np.square(answers - y))):.6g} (root mean square, in the target's units)"


def _print_epoch(run: Run) -> None:
    """Stand in for the progress bar where standard error is not a terminal: at most 20 lines."""
    if run.history.epochs % math.ceil(run.epochs / 20) == 0:
        print(f"epoch {run.history.epochs}/{run.epochs}: {run.history.summary()}", file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="fastbp", description="Train dense networks on the CPU, use them, and see what runs here.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    sub = _add(commands, "train", train)
    add = sub.add_argument
    add("--data", default="digits", metavar="SOURCE", help=f"{SOURCES} (default: digits, which come with fastbp)")
    add("--task", default="auto", choices=TASKS, help="what a file's target is; auto: whole numbers are classes")
    add("--hidden", type=_sizes, default=[128], metavar="N,N", help="sizes of hidden layers, or none (default: 128)")
    add("--activation", default="relu", choices=networks.ACTIVATIONS, help="between the layers (default: relu)")
    add("--epochs", type=_count, help=f"default: 10, or as many as make {STEPS:,} steps if that is more")
    add("--batch", type=_count, help=f"rows in a batch (default: 32; 128 from {LARGE:,} rows)")
    add("--optimizer", default="adam", choices=OPTIMIZERS, help="default: adam")
    rates = ", ".join(f"{name} {lr:g}" for name, (_, lr) in OPTIMIZERS.items())
    add("--lr", type=_rate, help=f"learning rate at the start; a cosine takes it to 0 (default: {rates})")
    add("--seed", type=_seed, default=0, help="of the weights and the order of rows (default: 0)")
    add("--threads", type=_count, help="default: see fastbp info")
    add("--out", metavar="FILE", help="where to save the network (default: the data's name with .safetensors, here)")

    sub = _add(commands, "evaluate", evaluate)
    sub.add_argument("model", metavar="MODEL", help="a file written by fastbp train")
    data_help = f"{SOURCES}, all of whose rows are used (default: the rows held out in training)"
    sub.add_argument("--data", metavar="SOURCE", help=data_help)

    sub = _add(commands, "predict", predict)
    sub.add_argument("model", metavar="MODEL", help="a file written by fastbp train")
    file_help = "rows of raw values as CSV (a target column is ignored), NPZ (array x) or an IDX file"
    sub.add_argument("file", metavar="FILE", help=file_help)

    sub = _add(commands, "bench", bench.run)
    sub.add_argument("--threads", type=_count, help="default: see fastbp info")
    sub.add_argument("--json", metavar="FILE", help="where to write the results")

    sub = _add(commands, "explain", explain.run)
    names = ", ".join(PICTURES)
    sub.add_argument("example", metavar="EXAMPLE", nargs="?", choices=PICTURES, help=f"one of {names}")
    sub.add_argument("--list", action="store_true", help="say what each example is")
    sub.add_argument("--format", choices=explain.FORMATS, help="default: html, or by the ending of --out")
    sub.add_argument("--out", metavar="FILE", help="write this file (default: a temporary one, opened in the browser)")
    sub.add_argument("--no-open", action="store_true", help="do not open the temporary file")

    _add(commands, "info", info)
    return parser


def _add(commands: Any, name: str, run: Callable[[Arguments], int]) -> argparse.ArgumentParser:
    summary = (run.__doc__ or "").strip()
    sub = commands.add_parser(name, help=summary, description=summary)
    sub.set_defaults(run=run)
    return sub


def _whole(text: str, low: int, high: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"expected a whole number from {low} to {high}, got {text!r}")
    return value


def _count(text: str) -> int:
    return _whole(text, 1, 2**31 - 1)


def _seed(text: str) -> int:
    return _whole(text, 0, 2**63 - 1)


def _sizes(text: str) -> list[int]:
    return [] if text == "none" else [_count(size) for size in text.split(",")]


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value
