"""Files in COCO's format: read, checked and completed, without torch or Detectron2."""
