"""Lists of videos in four layouts."""

import pytest
from conftest import write_video

from softpool_det.io.data_errors import DataError
from softpool_det.video.lists import read_clips
from softpool_det.video.moving_digits import CLASSES


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def listed(found):
    return [
        (clip.path.rpartition("/")[2], clip.start, clip.end, clip.label) for clip in found.clips
    ]


def test_ucf_101(digits_folder):
    lists, videos = digits_folder / "ucfTrainTestlist", digits_folder / "UCF-101"
    train = read_clips(lists / "trainlist01.txt", videos)
    val = read_clips(lists / "testlist01.txt", videos, classes=train.classes)
    assert train.classes == val.classes == tuple(CLASSES)
    assert (len(train.clips), len(val.clips)) == (180, 70)
    for clip in train.clips + val.clips:
        assert f"/{train.classes[clip.label]}/v_{train.classes[clip.label]}_g" in clip.path
    groups = [{clip.path.split("_g")[1][:2] for clip in found.clips} for found in (train, val)]
    assert not groups[0] & groups[1]


def test_ucf_101_takes_labels_from_folders(tmp_path):
    """A class whose files are spelled in another way, as HandstandPushups in UCF-101."""
    write(tmp_path / "lists" / "classInd.txt", "1 Archery", "2 HandstandPushups")
    test = write(
        tmp_path / "lists" / "testlist01.txt", "HandstandPushups/v_HandStandPushups_g01_c01.avi"
    )
    touch(tmp_path, "HandstandPushups/v_HandStandPushups_g01_c01.avi")
    assert [clip.label for clip in read_clips(test, tmp_path).clips] == [1]


def test_kinetics_in_any_folders_without_the_files_that_vanished(tmp_path, caplog):
    rows = ["-a_b-c,4,14,train", "xyz,10,20,train", "gone,0,10,train", "other,0,10,validate"]
    labels = ["zumba", "air drumming", "zumba", "zumba"]
    file = write(
        tmp_path / "train.csv",
        "label,youtube_id,time_start,time_end,split",
        *(f"{label},{row}" for label, row in zip(labels, rows, strict=True)),
    )
    touch(tmp_path, "train/zumba/-a_b-c_000004_000014.mp4", "flat/xyz_000010_000020.webm")
    touch(tmp_path, "xyz.txt", "flat/gone_000001_000011.mp4")
    found = read_clips(file, tmp_path, "train")
    assert found.classes == ("air drumming", "zumba")
    assert listed(found) == [
        ("-a_b-c_000004_000014.mp4", None, None, 1),
        ("xyz_000010_000020.webm", None, None, 0),
    ]
    assert [name.rpartition("/")[2] for name in found.missing] == ["gone_000000_000010"]
    assert "1 of the 3 videos" in caplog.text
    assert "gone" in caplog.text


def test_hacs_takes_positive_clips_of_whole_videos(tmp_path):
    file = write(
        tmp_path / "HACS_clips_v1.1.1.csv",
        "classname,youtube_id,subset,start,end,label",
        *("Archery,a,training,1.5,3.5,1", "Archery,a,training,7.0,9.0,-1"),
        *("Zumba,b,training,0.0,2.0,1", "Archery,a,validation,4.0,6.0,1"),
    )
    touch(tmp_path, "Archery/v_a.mp4", "Zumba/b_000000_000002.mp4")
    train = read_clips(file, tmp_path, "train")
    assert listed(train) == [("v_a.mp4", 1.5, 3.5, 0), ("b_000000_000002.mp4", None, None, 1)]
    val = read_clips(file, tmp_path, "val", train.classes)
    assert listed(val) == [("v_a.mp4", 4.0, 6.0, 0)]


def test_the_authors_lists_of_cut_hacs(tmp_path):
    file = write(tmp_path / "a.csv", "label,id,time_start,time_end,split", "Zumba,b,0,2,train")
    touch(tmp_path, "b_000000_000002.mp4")
    assert listed(read_clips(file, tmp_path)) == [("b_000000_000002.mp4", None, None, 0)]


def test_pyslowfast(tmp_path):
    touch(tmp_path, "a b.mp4", "c,d.mp4")
    file = write(tmp_path / "train.csv", "a b.mp4 0", "", f"{tmp_path}/c,d.mp4,2")
    found = read_clips(file, tmp_path)
    assert listed(found) == [("a b.mp4", None, None, 0), ("c,d.mp4", None, None, 2)]
    assert found.classes == ("0", "1", "2")


def test_files_that_are_no_videos_are_found_beforehand(tmp_path, caplog):
    write_video(tmp_path / "a.avi", 2)
    (tmp_path / "b.avi").write_text("no video")
    file = write(tmp_path / "val.csv", "a.avi 0", "b.avi 1", "c.avi 1")
    assert len(read_clips(file, tmp_path).clips) == 2
    assert listed(read_clips(file, tmp_path, opened=True)) == [("a.avi", None, None, 0)]
    assert "2 of the 3 videos" in caplog.text
    assert "b.avi" in caplog.text


def test_what_cannot_be_used(tmp_path):
    header = "label,youtube_id,time_start,time_end,split"
    with pytest.raises(FileNotFoundError, match=r"must be a list of videos.\nUCF-101: https://"):
        read_clips(tmp_path / "none.csv", tmp_path)
    cases = {
        "a.mp4 zero": "line 1: 'a.mp4 zero' is no path with a label",
        "label,youtube_id,time_start": "lacks the column time_end or end",
        f"{header}\nzumba,a,x,10,train": "line 2: no times",
        f"{header}\n,a,0,10,train": "line 2: no label",
        f"{header}\nzumba,a,0,10,test": "names no videos of that split",
    }
    for text, message in cases.items():
        with pytest.raises(DataError, match=message):
            read_clips(write(tmp_path / "list.csv", text), tmp_path, "train")
    file = write(tmp_path / "list.csv", "a.mp4 0")
    with pytest.raises(
        FileNotFoundError, match=r"none of the 1 videos of .* is there: .*a.mp4, \.\.\.\nUCF"
    ):
        read_clips(file, tmp_path)
    touch(tmp_path, "a.mp4")
    with pytest.raises(DataError, match="the class '0', none of the 1 classes"):
        read_clips(file, tmp_path, classes=["1"])
