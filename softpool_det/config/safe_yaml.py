"""Config files in YAML, read without running the Python that YAML can hold."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import IO, Any

import yaml
from detectron2.config import CfgNode
from detectron2.config.compat import guess_version

# Expressions in the configs of Detectron2's model zoo and of its projects, with their values: they
# are looked up as text and never evaluated.
KNOWN_EXPRESSIONS: dict[str, list] = {
    # Base-RetinaNet.yaml
    "[[x, x * 2**(1.0/3), x * 2**(2.0/3) ] for x in [32, 64, 128, 256, 512 ]]": [
        [x, x * 2 ** (1.0 / 3), x * 2 ** (2.0 / 3)] for x in (32, 64, 128, 256, 512)
    ],
    # MIN_SIZE_TRAIN of MaskFormer, Mask2Former and others, for images of about these sides
    **{
        f"[int(x * 0.1 * {side}) for x in range(5, 21)]": [
            int(x * 0.1 * side) for x in range(5, 21)
        ]
        for side in (512, 640, 1024)
    },
}

_PYTHON = "tag:yaml.org,2002:python/"
_YAML = "tag:yaml.org,2002:"


def merge_yaml(cfg: Any, config_file: str) -> None:
    """As `cfg.merge_from_file(config_file)`, with `_BASE_` and versions, but of data alone.

    Of Python's tags those with a known meaning are translated: tuples, and `KNOWN_EXPRESSIONS`.

    Args:
        cfg: a node of Detectron2's or fvcore's.
        config_file: a path or an address that Detectron2 can open.

    Raises:
        OSError: the file, or one that it names as `_BASE_`, cannot be read.
        ValueError: such a file has another tag or is not a YAML mapping; names file and line.
        KeyError: yacs': a key that `cfg` lacks.
    """
    loaded = read_yaml(config_file)
    if "VERSION" in cfg and "VERSION" not in loaded:
        # Here, for its warning names the file.
        loaded["VERSION"] = guess_version(CfgNode(loaded), config_file)
    # As one file without bases and tags: yacs merges only nodes of one class, so that a cfg of
    # Detectron2's has to read the file itself.
    with tempfile.TemporaryDirectory() as folder:
        flat = Path(folder, Path(config_file).name)
        flat.write_text(yaml.safe_dump(loaded, sort_keys=False), encoding="utf-8")
        cfg.merge_from_file(str(flat), allow_unsafe=False)


def read_yaml(config_file: str) -> dict[str, Any]:
    """Read a YAML file's values over those of the file that it names as `_BASE_`, if any.

    Raises:
        OSError, ValueError: as :func:`merge_yaml`.
    """
    try:
        return dict(_DataNode.load_yaml_with_base(config_file))
    except RecursionError as error:
        raise ValueError(
            f"{config_file} is nested too deeply, or is among its own _BASE_ files"
        ) from error


class _DataNode(CfgNode):
    """What fvcore's `_BASE_` handling opens: YAML that holds data and nothing else."""

    @classmethod
    def _open_cfg(cls, filename: str) -> IO[str]:
        with super()._open_cfg(filename) as file:
            try:
                values = yaml.load(file.read(), Loader=_DataLoader)
                return io.StringIO(yaml.safe_dump(_checked(values), sort_keys=False))
            except (yaml.YAMLError, TypeError, ValueError) as error:
                raise ValueError(f"config {filename}{_described(error)}") from error


class _DataLoader(yaml.SafeLoader):
    """Refuses tags where SafeLoader does, in words that say which and where."""


class _TagError(yaml.constructor.ConstructorError):
    """A tag that is not translated."""


def _construct_tuple(loader: yaml.SafeLoader, node: yaml.Node) -> tuple:
    if not isinstance(node, yaml.SequenceNode):
        _refuse(loader, node)
    return tuple(loader.construct_sequence(node, deep=True))


def _construct_expression(loader: yaml.SafeLoader, node: yaml.Node) -> list:
    if isinstance(node, yaml.SequenceNode) and len(node.value) == 1:
        known = KNOWN_EXPRESSIONS.get(node.value[0].value) if _is_text(node.value[0]) else None
        if known is not None:
            return known
    return _refuse(loader, node)


def _is_text(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode)


def _refuse(_loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    tag = node.tag.replace(_YAML, "!!", 1) if node.tag.startswith(_YAML) else node.tag
    # repr: a tag may hold any character.
    raise _TagError(None, None, f"the tag {tag!r}", node.start_mark)


_DataLoader.add_constructor(_PYTHON + "tuple", _construct_tuple)
_DataLoader.add_constructor(_PYTHON + "object/apply:eval", _construct_expression)
_DataLoader.add_constructor(None, _refuse)


def _checked(values: Any) -> dict:
    if not isinstance(values, dict):
        raise TypeError(f"it is {type(values).__name__}, not a mapping")
    return values


def _described(error: Exception) -> str:
    """Describe what is wrong with a file, in one line that follows its name."""
    mark = getattr(error, "problem_mark", None)
    where = "" if mark is None else f", line {mark.line + 1}"
    problem = getattr(error, "problem", None) or " ".join(str(error).split())
    if isinstance(error, _TagError):
        return (
            f"{where}: {problem} needs code to be read; nothing was run. Configs are plain YAML "
            "here: write the value that the tag stands for"
        )
    return f"{where}: not a YAML file of keys and values ({problem})"
