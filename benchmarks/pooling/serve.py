"""One build's process of `--against`: calls each pooling once when it is asked to.

It reads a line of JSON for each thing to do and answers with one: `{"case": index}` gets everything
ready for a case, `{"round": number}` calls the poolings, in random order, and `{"rows": true}`
gives what was measured in this case's rounds.
"""

from __future__ import annotations

import gc
import json
import os
import random
import sys

from measuring import allocator
from measuring.machine import description
from measuring.timing import Function, device_ms, summary, wall_ms

import softpool_det
from pooling.cases import Case
from pooling.measure import functions_of, rows_of
from pooling.names import BETA, EXACT, FUSED, LEARNED, MAX, SOFT, STOCK_STEM
from pooling.peers import peers_of, usable
from pooling.plan import Plan

OWN = (SOFT, EXACT, BETA, LEARNED, FUSED)
# In every third round only, since they take most of its time.
STOCK = (MAX, STOCK_STEM)
STOCK_EVERY = 3


def serve(plan: Plan) -> None:
    answers = os.fdopen(os.dup(1), "w")
    # What else is printed must not come between the answers.
    os.dup2(2, 1)

    def answer(content: dict) -> None:
        print(json.dumps(content), file=answers, flush=True)

    cases = plan.cases()
    clock = device_ms if plan.device == "cuda" else wall_ms
    package = os.path.dirname(softpool_det.__file__)
    answer({"machine": description(plan.device), "package": package})
    gc.disable()
    heap = 0
    functions: dict[tuple[str, str], Function] = {}
    samples: dict[tuple[str, str], list[float]] = {}
    for line in sys.stdin:
        command = json.loads(line)
        if "case" in command:
            case = cases[command["case"]]
            functions, samples = {}, {}
            gc.collect()
            if plan.setting == "kept" and case.bytes_needed > heap:
                heap = case.bytes_needed
                allocator.touch(heap)
            try:
                functions = _ready(case, plan.device)
                answer({"failed": None})
            except RuntimeError as error:
                answer({"failed": str(error)})
        elif "round" in command:
            count = command["round"]
            keys = [key for key in functions if key[0] not in STOCK or count % STOCK_EVERY == 0]
            random.Random(count).shuffle(keys)
            for key in keys:
                samples.setdefault(key, []).append(clock(functions[key]))
            gc.collect()
            answer({})
        else:
            times = {key: summary(samples[key]) for key in functions}
            answer({"rows": rows_of(case, times)})


def _ready(case: Case, device: str) -> dict[tuple[str, str], Function]:
    input = case.new_input(device)
    peers = peers_of(case, device)
    compared = {name: peer for name, peer in peers.items() if name in OWN + STOCK}
    found = usable(compared, input)
    lost = [name for name in compared if name in OWN and name not in found]
    if lost:
        raise RuntimeError(f"{', '.join(lost)} failed, as said above")
    functions = functions_of(case, device, found, input)
    for function in functions.values():
        function()
    return functions
