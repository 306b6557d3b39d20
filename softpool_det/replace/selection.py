"""Which of a model's poolings `where` means."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import nn

from softpool_det.io.errors import nearest
from softpool_det.replace.pooling_sites import Site, Unknown
from softpool_det.replace.stems import find_stems
from softpool_det.replace.windows import adaptive_base, has_window_of_one, is_pooling, why_not

Where = str | Iterable[str] | Callable[[str, nn.Module], bool]


def select(
    model: nn.Module, where: Where, found: list[Site | Unknown]
) -> tuple[list[Site], list[tuple[Site | Unknown, str]]]:
    """Select the poolings that `where` means; list the doubtful ones with the reasons.

    Raises:
        ValueError: the pooling does not exist, or its place is unclear.
    """
    sites = [site for site in found if isinstance(site, Site) and is_pooling(site.module)]
    unknown = [module for module in found if isinstance(module, Unknown)]
    if where == "stem":
        return find_stems(found)
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


def _by_name(model: nn.Module, name: str, sites: list[Site], unknown: list[Unknown]) -> list[Site]:
    module = dict(model.named_modules(remove_duplicate=False)).get(name)
    exact = [s for s in sites if s.name == name or (s.call is None and s.module is module)]
    if exact:
        return exact
    _refuse_unknown([m for m in unknown if m.name == name or m.name.startswith(f"{name}.")])
    below = [s for s in sites if s.name.startswith(f"{name}.") and not _left_by_all(s.module)]
    if below:
        return below
    hint = nearest(name, [site.name for site in sites])
    what = "has no pooling" if module is not None else "is not a module of the model"
    raise ValueError(f"{name!r} in where {what}{hint}")


def _refuse_unknown(unknown: list[Unknown]) -> None:
    if unknown:
        reasons = "; ".join(f"{m.name or 'model'}: {m.reason}" for m in unknown)
        raise ValueError(
            f"cannot replace the functional poolings of {reasons}. A list of names or a callable "
            "as where leaves them out"
        )
