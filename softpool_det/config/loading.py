"""Read a config file and the overrides of a command line."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import torch
from detectron2.config import CfgNode as CN
from detectron2.config import LazyConfig, get_cfg
from omegaconf import DictConfig

from softpool_det.config.keys import add_softpool_config, add_training_config
from softpool_det.config.safe_yaml import merge_yaml
from softpool_det.io.errors import TRUST_LAZY_CONFIG, error_text
from softpool_det.weights.pickles import is_of_zoo

_PROJECT_KEYS = (
    ". Keys of a project are added by a function of its own, called before the file is merged "
    "(softpool_det.add_softpool_config(cfg) adds MODEL.STEM_POOL.*)"
)


def load_config(
    config_file: str, overrides: Sequence[str] = (), trust_lazy_config: bool = False
) -> CN | DictConfig:
    """Read a config and apply overrides from a command line.

    The device is the GPU where there is one, else the CPU, unless file or overrides name it.

    Args:
        config_file: a YAML file, of which nothing is run, or a LazyConfig `.py` file.
        overrides: "KEY VALUE" pairs for YAML, "key=value" for LazyConfig, as in Detectron2.
        trust_lazy_config: read a LazyConfig, which is Python code and runs, those of this
            repository included.

    Returns:
        A frozen `CfgNode` for YAML, a `DictConfig` for LazyConfig.

    Raises:
        KeyError: a key that does not exist; names the nearest ones that do.
        PermissionError: a LazyConfig without `trust_lazy_config`, which has not run; or a file of
            proposals, which is a pickle, that is not of Detectron2's model zoo.
        ValueError: a YAML file needs code to be read, or is not YAML; names the file and the line.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if config_file.endswith(".py"):
        if not trust_lazy_config:
            raise PermissionError(
                f"{config_file} is a LazyConfig, which is Python code, and was not run. If you "
                f"would run a program from the same source, pass {TRUST_LAZY_CONFIG}"
            )
        lazy = LazyConfig.load(config_file)
        lazy.train.device = device
        return LazyConfig.apply_overrides(lazy, list(overrides))
    cfg = get_cfg()
    add_softpool_config(cfg)
    add_training_config(cfg)
    cfg.MODEL.DEVICE = device
    merge_config(cfg, config_file, overrides, hint=_PROJECT_KEYS)
    _check_proposals(cfg)
    cfg.freeze()
    return cfg


def _check_proposals(cfg: CN) -> None:
    """Refuse files that Detectron2 would unpickle, whatever is in them."""
    if not cfg.MODEL.LOAD_PROPOSALS:
        return
    for key in ("PROPOSAL_FILES_TRAIN", "PROPOSAL_FILES_TEST"):
        for path in cfg.DATASETS[key]:
            if not is_of_zoo(path):
                raise PermissionError(
                    f"DATASETS.{key} names {path}, a pickle, which may run code when it is read: "
                    "proposals are taken by their address in Detectron2's model zoo alone "
                    "(detectron2://...)"
                )


def merge_config(cfg: CN, config_file: str, overrides: Sequence[str], hint: str = "") -> None:
    """Merge a YAML file, of which nothing is run, and "KEY VALUE" overrides into `cfg`.

    Raises:
        KeyError: a key that `cfg` lacks; names the nearest ones that it has, then adds `hint`.
        OSError: see :func:`softpool_det.config.safe_yaml.merge_yaml`.
        ValueError: the same, or a key without a value.
    """
    if len(overrides) % 2:
        raise ValueError(
            "keys and their values must be pairs, KEY VALUE, got an odd number of words, the last "
            f"one {overrides[-1]}"
        )
    try:
        merge_yaml(cfg, config_file)
        cfg.merge_from_list(list(overrides))
    except (KeyError, AssertionError) as error:
        # yacs reports a wrong key of a file as KeyError, of an override as AssertionError.
        if "Non-existent" not in str(error):
            raise ValueError(
                f"{config_file}, {' '.join(overrides)}: {error_text(error)}"
            ) from error
        raise KeyError(_name_nearest_keys(cfg, str(error.args[0])) + hint) from error
    except (AttributeError, TypeError) as error:  # a number for a name, a value for a group ...
        raise ValueError(f"{config_file} is not a config: {error}") from error


def _name_nearest_keys(cfg: CN, message: str) -> str:
    wanted = message.rsplit(" ", 1)[-1]
    near = difflib.get_close_matches(wanted, _leaf_keys(cfg), n=3, cutoff=0.5)
    return message + (f"; the nearest keys are {', '.join(near)}" if near else "")


def _leaf_keys(node: CN, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, value in node.items():
        # Detectron2's nodes and those that it is built on, which are another class, are dicts.
        inner = _leaf_keys(value, f"{prefix}{name}.") if isinstance(value, dict) else None
        keys += inner if inner is not None else [prefix + name]
    return keys
