"""The config keys that softpool_det adds to Detectron2's."""

from __future__ import annotations

from detectron2.config import CfgNode as CN

DEFAULT_MAX_PIXELS = 89_478_485


def add_softpool_config(cfg: CN) -> None:
    """Add `MODEL.STEM_POOL` to `cfg`, and the backbones that read it to Detectron2's registry.

    Changes no other key, and nothing when called again.
    """
    # Registers them; `import softpool_det` does so only where Detectron2 is loaded already.
    import softpool_det.modeling  # noqa: F401

    if "STEM_POOL" in cfg.MODEL:
        return
    cfg.MODEL.STEM_POOL = CN()
    # A pooling of docs/poolings.md ("SoftPool2d", "lip", ...), or a name that was registered in
    # softpool_det.modeling.POOLING_REGISTRY.
    cfg.MODEL.STEM_POOL.NAME = "SoftPool2d"
    # The authors' ResNets pool 2x2 windows with stride 2 and no padding (stock: max, 3, 2, 1).
    cfg.MODEL.STEM_POOL.KERNEL_SIZE = 2
    cfg.MODEL.STEM_POOL.STRIDE = 2
    cfg.MODEL.STEM_POOL.PADDING = 0
    # With it, features have the stock model's size for inputs of every size.
    cfg.MODEL.STEM_POOL.CEIL_MODE = True
    # "paper": section 3.2 of the SoftPool paper; "exact": the derivative of Eq. (2).
    cfg.MODEL.STEM_POOL.GRADIENT = "paper"
    # SoftPool's temperature: weights are the softmax of BETA * x. 0 averages; above 1 it comes
    # nearer to the maximum. A float (4.0, not 4); where it is learned, it starts here.
    cfg.MODEL.STEM_POOL.BETA = 1.0
    # "one": learn one temperature; "channel": one for each channel; "no": neither. YAML needs the
    # quotes: it reads a bare no as False.
    cfg.MODEL.STEM_POOL.LEARN_BETA = "no"
    # Options of the pooling: a list of KEY VALUE, such as ["exponent", 3.0].
    cfg.MODEL.STEM_POOL.OPTIONS = []


def add_training_config(cfg: CN) -> None:
    """Add the keys with which :class:`softpool_det.training.Trainer` goes beyond Detectron2's."""
    # Data sets by their files, in place of the names in TRAIN and TEST: COCO's JSON, and for each
    # the folder of its images. (In a LazyConfig: datasets.train_json, ...)
    for part in ("TRAIN", "VALIDATION", "TEST"):
        cfg.DATASETS[f"{part}_JSON"] = cfg.DATASETS[f"{part}_IMAGES"] = ()
    # What TEST.EVAL_PERIOD evaluates on while the model trains, in place of TEST: the best
    # checkpoint can then be chosen on other images than it is tested on.
    cfg.DATASETS.VALIDATION = ()
    # For a quick run: so many images of each data set, always the same ones; 0 for all.
    cfg.DATASETS.LIMIT_IMAGES = 0
    # SGD (Detectron2's own) or AdamW, both with the other SOLVER keys.
    cfg.SOLVER.OPTIMIZER = "SGD"
    # Largest norm of the gradient of all parameters together; 0 for no limit.
    # (Detectron2's CLIP_GRADIENTS clips each parameter by itself.)
    cfg.SOLVER.FULL_MODEL_CLIP_NORM = 0.0
    # What SOLVER.AMP.ENABLED computes in: float16 (Detectron2's, with scaled gradients) or
    # bfloat16, which a CPU can do, too.
    cfg.SOLVER.AMP.DTYPE = "float16"
    # Batches of IMS_PER_BATCH for each step of the optimizer, whose gradients are averaged.
    # Iterations are steps. (These and the others below, in a LazyConfig: train.accumulate_steps.)
    cfg.SOLVER.ACCUMULATE_STEPS = 1
    # Average the weights over iterations, exponentially: what is evaluated and what checkpoints
    # have as their model. 0 for no average; 0.999 is one of about the last 1,000 iterations.
    cfg.SOLVER.EMA_DECAY = 0.0
    # Divide RetinaNet's and FCOS's losses by the foreground of all processes and all batches of a
    # step together, so that they do not depend on how many there are. False is as in Detectron2.
    cfg.SOLVER.SHARE_LOSS_NORMALIZER = True
    # Keep the checkpoint that is best by a metric, such as "bbox/AP", among the evaluations of
    # TEST.EVAL_PERIOD; the run's final evaluation is of this one. "" for the last one.
    cfg.TEST.BEST_METRIC = ""
    # End the training after so many evaluations in a row that were not better; 0 to train on.
    cfg.TEST.PATIENCE = 0
    # Where metrics go beside metrics.json and TensorBoard: "wandb", "mlflow".
    cfg.LOG = CN()
    cfg.LOG.WRITERS = ()
    # Leave out of the training what cannot be read or cannot be right, and list it at the end;
    # otherwise the first such image or annotation ends the run. (LazyConfig: train.skip_corrupt.)
    cfg.INPUT.SKIP_CORRUPT = False
    # Images of more are not decoded; Pillow's own limit. (In a LazyConfig: train.max_pixels.)
    cfg.INPUT.MAX_PIXELS = DEFAULT_MAX_PIXELS
    # Keep the workers of evaluations from one to the next; those of a training always stay.
    cfg.DATALOADER.PERSISTENT_WORKERS = False
    # Compile the backbone with torch.compile; minutes at the start.
    cfg.MODEL.COMPILE_BACKBONE = False
    # Keep images and weights in torch.channels_last: the faster layout on a CPU.
    cfg.MODEL.CHANNELS_LAST = False
    # Start from ImageNet weights that were trained with another pooling in the stem than the
    # model's. (In a LazyConfig: train.allow_other_stem_pool.)
    cfg.MODEL.ALLOW_OTHER_STEM_POOL = False
