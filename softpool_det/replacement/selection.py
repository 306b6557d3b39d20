"""Which of a model's poolings `where` means."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from .poolings import adaptive_base, has_window_of_one, is_pooling, why_not, windowed_base
from .sites import Site, Unknown

Where = str | Iterable[str] | Callable[[str, nn.Module], bool]

# Of a deep stem: three of 3 x 3 in place of one of 7 x 7.
_STEM_CONVOLUTIONS = 3


def select(
    model: nn.Module, where: Where, found: list[Site | Unknown]
) -> tuple[list[Site], list[tuple[Site | Unknown, str]]]:
    """The poolings that `where` means, and those that "all" leaves alone, each with the reason.

    Raises:
        ValueError: there is no such pooling, or it cannot be said where it is.
    """
    sites = [site for site in found if isinstance(site, Site) and is_pooling(site.module)]
    unknown = [module for module in found if isinstance(module, Unknown)]
    if where == "stem":
        return [_stem(found)], []
    if where == "all":
        reasons = [(site, _left_by_all(site.module) or why_not(site.module)) for site in sites]
        left: list[tuple[Site | Unknown, str]] = [(site, why) for site, why in reasons if why]
        left += [(module, module.reason) for module in unknown]
        return [site for site, why in reasons if not why], left
    if isinstance(where, str):
        raise ValueError(
            f'where must be "stem", "all", a list of names or a callable, got {where!r}: '
            f"a name goes in a list, [{where!r}]"
        )
    if callable(where):
        _refuse_unknown([module for module in unknown if where(module.name, module.module)])
        return [site for site in sites if where(site.name, site.module)], []
    chosen = [site for name in where for site in _by_name(model, name, sites, unknown)]
    return list({id(site): site for site in chosen}.values()), []


def _left_by_all(pool: nn.Module) -> str | None:
    if adaptive_base(pool):
        return "adaptive: name it to have it replaced"
    return "windows of one element" if has_window_of_one(pool) else None


def _stem(found: list[Site | Unknown]) -> Site:
    sites = [site for site in found if isinstance(site, Site)]
    convolutions = [s for s in sites if not is_pooling(s.module)]
    unknown = [module for module in found if isinstance(module, Unknown)]
    why = "it has no convolution"
    if convolutions:
        first = min(convolutions, key=_input_channels)
        passed = 0
        why = f"no pooling follows {first.name}"
        for site in sites[sites.index(first) :]:
            if not is_pooling(site.module):
                passed += 1
            elif not _left_by_all(site.module):
                why = _why_no_stem(site, first, passed)
                if not why:
                    return site
                break
    hidden = "".join(f"; {module.name or 'model'}: {module.reason}" for module in unknown)
    raise ValueError(
        f"model has no stem pooling: {why}{hidden}. Name what to replace, or use where='all'"
    )


def _input_channels(convolution: Site) -> int:
    module: Any = convolution.module
    return module.in_channels


def _why_no_stem(site: Site, first: Site, passed: int) -> str:
    base = windowed_base(site.module)
    assert base is not None
    stride = site.module.stride
    steps = stride if isinstance(stride, (list, tuple)) else (stride,)
    if passed > _STEM_CONVOLUTIONS:
        return (
            f"{passed} convolutions from {first.name} on lie before the first one, {site.name} "
            f"(a stem has at most {_STEM_CONVOLUTIONS})"
        )
    return "" if max(steps) > 1 else f"the first one, {site.name}, has stride 1"


def _by_name(model: nn.Module, name: str, sites: list[Site], unknown: list[Unknown]) -> list[Site]:
    module = dict(model.named_modules(remove_duplicate=False)).get(name)
    exact = [s for s in sites if s.name == name or (s.call is None and s.module is module)]
    if exact:
        return exact
    _refuse_unknown([m for m in unknown if m.name == name or m.name.startswith(f"{name}.")])
    below = [s for s in sites if s.name.startswith(f"{name}.") and not _left_by_all(s.module)]
    if below:
        return below
    near = difflib.get_close_matches(name, [site.name for site in sites], n=3)
    hint = f"; the nearest are {', '.join(near)}" if near else ""
    what = "there is no pooling in" if module is not None else "there is no module"
    raise ValueError(f"{what} {name!r}, which where names{hint}")


def _refuse_unknown(unknown: list[Unknown]) -> None:
    if unknown:
        reasons = "; ".join(f"{m.name or 'model'}: {m.reason}" for m in unknown)
        raise ValueError(
            f"cannot replace the functional poolings of {reasons}. A list of names or a callable "
            "as where leaves them out"
        )
