"""The processes of `--num-gpus`: they get the signals of their parent, which ends as they do."""

from __future__ import annotations

import multiprocessing
import sys
from argparse import Namespace
from collections.abc import Callable

from detectron2.engine import launch
from torch.multiprocessing import ProcessExitedException

from softpool_det.training.signals import passing_on


def launch_processes(main: Callable[[Namespace], None], args: Namespace) -> None:
    """Detectron2's launch of `main(args)`, as its argument parser's options say.

    Alone, its processes would be interrupted where a signal ends their parent, and what they say
    with a status would come back as a traceback.

    Args:
        main: called in each process. With one process in all, that is this one.
        args: `num_gpus` (processes on this machine), `num_machines`, `machine_rank`, `dist_url`.

    Raises:
        SystemExit: a process ended with another status than 0; with that status.
    """
    options = args.num_gpus, args.num_machines, args.machine_rank, args.dist_url
    if args.num_gpus * args.num_machines <= 1:
        launch(main, *options, args=(args,))
        return
    try:
        with passing_on(lambda: [child.pid for child in multiprocessing.active_children()]):
            launch(main, *options, args=(args,))
    except ProcessExitedException as error:
        # As a shell spells the end by a signal.
        sys.exit(error.exit_code if error.exit_code >= 0 else 128 - error.exit_code)
