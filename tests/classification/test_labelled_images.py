import gzip

import numpy as np
import pytest

from softpool_det.classification.datasets import DEBIAN_FASHION_MNIST, open_dataset
from softpool_det.datasets.digit_scenes import load_digits


def as_array(image):
    return np.asarray(image)


def write_fashion_mnist(folder, prefix, images, labels):
    """Files in the format of http://yann.lecun.com/exdb/mnist, which Fashion-MNIST has, too."""
    folder.mkdir(exist_ok=True)
    sizes = np.array(images.shape, ">i4").tobytes()
    content = b"\x00\x00\x08\x03" + sizes + images.tobytes()
    (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(content))
    content = b"\x00\x00\x08\x01" + sizes[:4] + labels.tobytes()
    (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(content))


def test_folder(pictures, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(pictures.parent))
    for name in (f"{pictures.name}/val", str(pictures / "val")):
        dataset = open_dataset(name, as_array, "val_data")
        assert dataset.classes == ["amber", "blue", "green"]
        assert dataset.targets == [0] * 5 + [1] * 5 + [2] * 5
        assert dataset[6][0].shape[2] == 3


def test_digits(small_datasets, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(small_datasets))
    for split, size in (("train", 4000), ("val", 1000)):
        dataset = open_dataset(f"digits_{split}", as_array, "")
        images, labels = load_digits(split)
        assert len(dataset) == len(dataset.targets) == size
        assert dataset.classes == list("0123456789")
        image, label = dataset[17]
        assert label == labels[17]
        assert np.array_equal(image, np.stack([images[17]] * 3, axis=2))


@pytest.mark.parametrize(("split", "prefix"), [("train", "train"), ("val", "t10k")])
def test_fashion_mnist(split, prefix, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    images = np.random.RandomState(0).randint(0, 256, (3, 28, 28), np.uint8)
    labels = np.array([9, 0, 4], np.uint8)
    write_fashion_mnist(tmp_path / "fashion-mnist", prefix, images, labels)
    dataset = open_dataset(f"fashion_mnist_{split}", as_array, "")
    assert dataset.targets == [9, 0, 4]
    assert np.array_equal(dataset[1][0][:, :, 2], images[1])


@pytest.mark.skipif(not DEBIAN_FASHION_MNIST.is_dir(), reason="no dataset-fashion-mnist")
def test_debians_fashion_mnist(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    for split, size in (("train", 60000), ("val", 10000)):
        dataset = open_dataset(f"fashion_mnist_{split}", as_array, "")
        assert np.bincount(dataset.targets).tolist() == [size // 10] * 10
        assert dataset.classes[9] == "Ankle boot"


def test_missing_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(FileNotFoundError) as error:
        open_dataset("imagenet/train", as_array, "train_data")
    text = str(error.value)
    assert text.startswith(f"train_data names {tmp_path}/imagenet/train, which does not exist")
    for part in ("digits_train", "image-net.org", "ILSVRC2012_img_train.tar"):
        assert part in text


def test_folder_without_classes(tmp_path):
    (tmp_path / "picture.png").touch()
    with pytest.raises(FileNotFoundError, match="which holds no folder, so no class"):
        open_dataset(str(tmp_path), as_array, "val_data")


def test_missing_fashion_mnist(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    monkeypatch.setattr("softpool_det.classification.datasets.DEBIAN_FASHION_MNIST", tmp_path)
    with pytest.raises(FileNotFoundError) as error:
        open_dataset("fashion_mnist_val", as_array, "val_data")
    for part in ("t10k-images-idx3-ubyte.gz", str(tmp_path / "fashion-mnist"), "apt-get install"):
        assert part in str(error.value)
