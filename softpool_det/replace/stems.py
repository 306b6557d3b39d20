"""The pooling in the stem of each pathway of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from softpool_det.replace.pooling_sites import Site, Unknown
from softpool_det.replace.windows import has_window_of_one, is_pooling, windowed_base

# A deep stem has three convolutions of 3 x 3 in place of one of 7 x 7.
_STEM_CONVOLUTIONS = 3


@dataclass
class _Pathway:
    """Where an input enters the model, and what was found behind it."""

    reader: Site  # the convolution that reads the input
    feeder: Site | None  # another convolution whose output it may read instead
    passed: int = 1  # convolutions from the reader on
    pool: Site | None = None
    rejected: Site | None = None  # its first pooling, if that does not end a stem
    problem: str = ""  # why the stem is unknown
    hidden: list[Unknown] = field(default_factory=list)  # modules that may hide its pooling


def find_stems(
    found: Sequence[Site | Unknown],
) -> tuple[list[Site], list[tuple[Site | Unknown, str]]]:
    """Find the stem's pooling of each pathway; list the doubtful ones with the reasons.

    Raises:
        ValueError: the model has none.
    """
    pathways = _follow(found, _readers(found))
    pools = {p.pool for p in pathways if not p.feeder}
    stems = [site for site in found if isinstance(site, Site) and site in pools]
    if not stems:
        hidden = [f"{u.name or 'model'}: {u.reason}" for u in found if isinstance(u, Unknown)]
        reasons = [p.problem for p in pathways[:1]] or ([] if hidden else ["it has no convolution"])
        raise ValueError(
            f"model has no stem pooling: {'; '.join(reasons + hidden)}. Name what to replace, or "
            "use where='all'"
        )
    # What was scripted or exported can be a whole pathway, and nothing is known of it.
    left: dict[Site | Unknown, str] = {
        u: u.reason
        for u in found
        if isinstance(u, Unknown)
        and isinstance(u.module, (torch.jit.ScriptModule, torch.fx.GraphModule))
    }
    for pathway in pathways:
        if pathway.pool is None:
            left |= {module: module.reason for module in pathway.hidden}
            if pathway.rejected and pathway.rejected not in stems:
                left[pathway.rejected] = pathway.problem
        elif pathway.feeder and pathway.pool not in stems:
            channels, feeder = _channels(pathway.reader)[0], pathway.feeder.name
            left[pathway.pool] = (
                f"{pathway.reader.name} reads {channels} channels, an image or the output of "
                f"{feeder}: if this is a stem, name it in where"
            )
    return stems, list(left.items())


def _readers(found: Sequence[Site | Unknown]) -> dict[Site, Site | None]:
    """Convolutions that read an input, the main one first; see `_Pathway.feeder` for the values.

    The main one has the fewest input channels. Another one has as few, or fewer than the main one
    gives and no convolution before it gives as many. If one behind it does, it may be a lateral
    connection from a pathway that is defined later.
    """
    convolutions = [s for s in found if isinstance(s, Site) and not is_pooling(s.module)]
    # Attention weighs by convolutions with one or two channels, but gives as few.
    widening = [c for c in convolutions if _channels(c)[0] < _channels(c)[1]] or convolutions
    if not widening:
        return {}
    first = min(widening, key=lambda site: _channels(site)[0])
    fewest, bound = _channels(first)
    if fewest == 0:
        raise ValueError(
            f"{first.name} is a lazy convolution, its number of input channels is not known yet: "
            "run the model on one input first"
        )
    may_read = set(widening)
    readers: dict[Site, Site | None] = {first: None}
    # The last one gives the model's output.
    later = {_channels(site)[1]: site for site in reversed(convolutions[:-1])}
    givers: dict[int, Site] = {}
    for site in convolutions:
        taken, given = _channels(site)
        feeder = givers.get(taken)
        if site in may_read and taken == fewest:
            readers.setdefault(site, feeder)
        elif site in may_read and taken < bound and not feeder:
            readers.setdefault(site, later.get(taken))
        givers.setdefault(given, site)
    return readers


def _channels(convolution: Site) -> tuple[int, int]:
    module: Any = convolution.module
    return module.in_channels, module.out_channels


def _dims(convolution: Site) -> int:
    module: Any = convolution.module
    return len(module.kernel_size)


def _follow(found: Sequence[Site | Unknown], readers: dict[Site, Site | None]) -> list[_Pathway]:
    """Follow each pathway of `readers`, in their order, to its first pooling."""
    pathways = {
        reader: _Pathway(reader, feeder, problem=f"no pooling follows {reader.name}")
        for reader, feeder in readers.items()
    }
    waiting: list[_Pathway] = []  # for a pooling
    unknown: list[Unknown] = []
    pooled = False
    for site in found:
        if isinstance(site, Unknown):
            unknown.append(site)
            for pathway in waiting:
                pathway.hidden.append(site)
        elif not is_pooling(site.module):
            if pooled:
                waiting, pooled = [], False
            if site in pathways:
                pathways[site].hidden += [u for u in unknown if _is_in(site.name, u.name)]
                waiting.append(pathways[site])
            elif waiting:
                waiting[-1].passed += 1
        elif not has_window_of_one(site.module) and (base := windowed_base(site.module)):
            pooled = True
            # Stems may be defined side by side: a convolution for each, then a pooling for each.
            # What may be no more than a connection comes last.
            fitting = [p for p in waiting if _dims(p.reader) == base[1]]
            for pathway in sorted(fitting, key=lambda p: p.feeder is not None):
                waiting.remove(pathway)
                if _ends(pathway, site):
                    break
    return list(pathways.values())


def _ends(pathway: _Pathway, site: Site) -> bool:
    """Whether the pooling `site` ends the stem of `pathway`, or shows that it has none."""
    stride: Any = site.module.stride
    steps = stride if isinstance(stride, (list, tuple)) else (stride,)
    if pathway.passed > _STEM_CONVOLUTIONS:
        pathway.rejected = site
        pathway.problem = (
            f"the first one, {site.name}, comes after {pathway.passed} convolutions from "
            f"{pathway.reader.name} on (a stem has at most {_STEM_CONVOLUTIONS})"
        )
        return False
    if max(steps) > 1:
        pathway.pool = site
    else:
        pathway.rejected, pathway.problem = site, f"the first one, {site.name}, has stride 1"
    return True


def _is_in(name: str, module: str) -> bool:
    return not module or name.startswith(f"{module}.")
