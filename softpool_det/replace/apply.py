"""SoftPool in place of a model's poolings, in one call."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import nn

from softpool_det.layers import options_of
from softpool_det.ops import SoftPool2d
from softpool_det.replace.pooling_sites import Site, Unknown, check_model, find_sites, is_basic_stem
from softpool_det.replace.replacements import Left, PoolingReplacements, Replaced, describe
from softpool_det.replace.rewriting import rewrite
from softpool_det.replace.selection import Where, select
from softpool_det.replace.substitute import check_arguments, make_substitute


def replace_pooling(
    model: nn.Module, where: Where = "stem", pool: str = "SoftPool2d", **kwargs: Any
) -> PoolingReplacements:
    """Replace poolings of `model` by SoftPool, or another one of `softpool_det.layers`, in place.

    Max and average poolings of 1 to 3 dimensions, and those of this package, are replaced, modules
    and calls of `torch.nn.functional` or `torch` alike. Nothing else changes: not the sizes of
    outputs, the state dict (but for what a pooling learns), nor any other module. A second call
    finds nothing to do.

    A module whose forward calls a functional pooling gets the pooling as a child and a forward
    traced by torch.fx that calls it. It stays the same object, of a subclass of its class (like
    `torch.nn.utils.parametrize`). Detectron2's `BasicStem` becomes a
    :class:`softpool_det.modeling.PooledStem` instead.

    SoftPool never counts padding. So where an average pooling counts its zeros
    (`count_include_pad=True`, PyTorch's default), values at the border differ by that, too.

    Args:
        model: any module; it must contain the poolings, not be one. DataParallel,
            DistributedDataParallel and torch.compile may have wrapped it: names then begin with
            the wrapper's prefix.
        where: which ones.

            "stem": the first pooling behind the convolution that reads the image, with at most two
            other convolutions between them; its stride must be above 1. The convolution that reads
            the image is the first of those with the fewest input channels (and more output
            channels). Order is that of definition, and of execution inside a forward that was
            traced. A model with several pathways (SlowFast, two streams, towers) has a stem for
            each. Other convolutions with more output than input channels read an input, too, on
            two conditions: they have as few input channels as the first one, or fewer than it has
            output channels; and no other convolution gives as many.

            "all": every pooling but the adaptive ones, those with windows of one element and those
            that cannot be replaced; the table says which and why.

            names: a list of names of poolings, or of modules for all poolings in them.
            Functional ones are named as the table names them. An adaptive pooling has to be named
            itself, and must have output size 1; it becomes a pooling over the whole input.

            callable(name, module): True for those to replace. For a functional pooling, `module` is
            the module that does the same.
        pool: a name in `softpool_det.layers.POOLINGS`, such as "SoftPool2d", "lip" or "MaxPool2d",
            which also takes SoftPool away again. The number of dimensions is that of the replaced
            layer, whatever the name says.
        kwargs: settings that differ from the replaced layer's (kernel_size, stride, padding,
            dilation, ceil_mode), and the pooling's own options: SoftPool's gradient ("paper" or
            "exact"), beta, learn_beta ("no", "one" or "channel"), for example; see its class. What
            is learned by channel needs num_channels: what a pooling gets is not always what the
            layer before it gives.

    Returns:
        What was replaced; what "all" left alone, and what may be another pathway's stem, with the
        reasons: print it.

    Raises:
        ValueError: output sizes would change for some input; a chosen pooling (by name, by the
            callable or as the stem's) returns indices, overrides the divisor, has its own forward
            or is in one that torch.fx cannot trace; a name or "stem" matches no pooling; or the
            model is quantized. The model is unchanged then.
        TypeError: the pooling does not take a keyword; or `model` is not a module, or was scripted,
            traced by torch.jit or exported.
    """
    kind = check_arguments(pool, kwargs)
    check_model(model)
    found = list(find_sites(model))
    chosen, left = select(model, where, found)
    if any(not site.name for site in chosen):
        raise ValueError(f"model must contain the pooling, got the pooling itself: {model}")
    substitutes = [make_substitute(site.name, site.module, kind, kwargs) for site in chosen]
    pairs = [(old, new) for old, new in zip(chosen, substitutes, strict=True)]
    done = [(old, new) for old, new in pairs if old.module is not new]
    like = next((value for value in model.parameters() if value.is_floating_point()), None)
    if like is not None:
        for _, new in done:
            # What is learned keeps float32 in a half-precision model, as everything is computed.
            new.to(like.device, torch.promote_types(like.dtype, torch.float32))
    _put_in(model, done)
    already = [
        Left(old.name, describe(new), "already so") for old, new in pairs if old.module is new
    ]
    return PoolingReplacements(
        tuple(Replaced(old.name, _describe(old), describe(new)) for old, new in done),
        (*already, *(Left(site.name or "model", _describe(site), why) for site, why in left)),
    )


def _describe(site: Site | Unknown) -> str:
    if isinstance(site, Unknown):
        return f"{type(site.module).__name__}, may pool in its forward"
    return describe(site.module, site.call.function if site.call else None)


def _put_in(model: nn.Module, pairs: list[tuple[Site, nn.Module]]) -> None:
    calls: dict[nn.Module, dict[str, tuple[str, nn.Module]]] = defaultdict(dict)
    for site, new in pairs:
        if site.call is None:
            _take_over(site.module, new)
            _swap(model, site.module, new)
            continue
        assert site.owner is not None
        new.training = site.owner.training
        if is_basic_stem(site.owner) and site.owner is not model:
            _swap(model, site.owner, _pooled_stem(site.owner, new))
        else:
            calls[site.owner][site.call.node] = (site.name.rpartition(".")[2], new)
    for owner, pools in calls.items():
        rewrite(owner, pools)


def _pooled_stem(stem: nn.Module, pool: nn.Module) -> nn.Module:
    # Needs detectron2, which is there: `stem` comes from it.
    from softpool_det.modeling import PooledStem

    pooled = PooledStem(stem, pool)
    _take_over(stem, pooled)
    return pooled


def _take_over(old: nn.Module, new: nn.Module) -> None:
    """Hooks, mode and what others wrote on a module, for the one in its place."""
    new.training = old.training
    # Ultralytics, say, keeps in every module of a model where its input comes from.
    known = {*vars(new), *getattr(old, "__constants__", ())}
    known.add("_compiled_call_impl")  # old.compile() wrote it: it would call the old one
    # A pooling's settings are not another's.
    known |= {*vars(SoftPool2d()), *options_of(type(old))}
    vars(new).update({name: value for name, value in vars(old).items() if name not in known})
    # The same dictionaries, so that handles still remove their hooks.
    vars(new).update({name: value for name, value in vars(old).items() if "hook" in name})


def _swap(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put `new` wherever `old` is: a module may have several names."""
    for parent in model.modules():
        for name, child in list(parent._modules.items()):
            if child is old:
                setattr(parent, name, new)
