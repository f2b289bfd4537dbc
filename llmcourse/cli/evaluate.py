"""`llmcourse evaluate`: one prompt, or one saved adapter, on the test rows. `accelerate launch` can start it too."""

import argparse
from pathlib import Path

from llmcourse.cli import processes, shared


def add_parser(commands: shared.Commands) -> None:
    """Add the command to the command line."""
    from llmcourse.experiment import SHOTS

    parser = commands.add_parser("evaluate", help="a prompt, or a saved adapter, on the test rows")
    shared.add_rows_arguments(parser)
    shared.add_machine_arguments(parser)
    parser.add_argument(
        "--adapter",
        type=Path,
        metavar="FOLDER",
        help="a saved adapter (default: the base model, prompted); a PEFT adapter of others needs --task too",
    )
    parser.add_argument(
        "--shots",
        type=shared.at_least(0),
        metavar="K",
        help=f"examples in the prompt (default: {SHOTS})",
    )
    parser.add_argument(
        "--chat",
        nargs="?",
        const=True,
        default=False,
        choices=("turns",),
        help="use the model's chat format; --chat turns gives the examples as turns of the chat",
    )
    parser.add_argument(
        "--way",
        choices=("generated", "scored", "calibrated"),
        default="generated",
        help="how the answer is read from the model (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Answer the test rows, or find the answers of an earlier run, and print the classification report."""
    from llmcourse import models
    from llmcourse.experiment import SHOTS

    adapter = task = model = None
    if options.adapter:
        adapter = shared.adapter_of(options, ("shots", "chat"), shared.OWN_TASK)
        task = shared.course_task(models.task_of(models.read_card(adapter)))
        model = models.base_of(adapter, options.model)
    experiment = shared.experiment_of(options, task, model)
    if processes.is_main():
        print(f"{shared.describe(experiment)}\n", flush=True)
    if adapter:
        question = experiment.adapter_question(adapter, options.way)
    else:
        shots = SHOTS if options.shots is None else options.shots
        question = experiment.question(experiment.prompt(shots, chat=options.chat), options.way)
    arm = processes.evaluate(experiment, question)
    if arm is None:  # the main process prints
        return
    print(f"{arm.name}, {arm.score.n} rows (test set {experiment.rows.test_id})\n")
    print(experiment.report(arm))
    print(
        f"accuracy {arm.score.accuracy:.1%}, {arm.score.interval}, macro-F1 {arm.score.macro_f1:.2f};"
        f" {arm.score.invalid} invalid; {arm.seconds_per_row:.3f} s per row"
    )
    shared.print_notes([*(shared.notes_on(adapter) if adapter else ()), *arm.notes])
