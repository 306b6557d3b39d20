"""Lists of videos in four layouts."""

import shutil
from pathlib import Path

import pytest
from video_files import write_video

from softpool_det.datasets.moving_digits import CLASSES
from softpool_det.io.data_errors import DataError
from softpool_det.video.clips import read_clips


@pytest.fixture(scope="session")
def second(tmp_path_factory):
    """A video of a second, 10 frames."""
    return write_video(tmp_path_factory.mktemp("second") / "a.avi", 10, fps=10)


@pytest.fixture
def put(tmp_path, second):
    """Put that video there, under whatever names."""

    def copy(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(second, path)

    return copy


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def listed(found):
    return [(clip.path.rpartition("/")[2], *clip[1:]) for clip in found[0]]


def test_ucf_101(digits_folder):
    lists, videos = digits_folder / "ucfTrainTestlist", digits_folder / "UCF-101"
    train, names = read_clips(lists / "trainlist01.txt", videos)
    val, others = read_clips(
        lists / "testlist01.txt", videos, training_list=lists / "trainlist01.txt"
    )
    assert names == others == list(CLASSES)
    assert (len(train), len(val)) == (180, 70)
    for clip in train + val:
        assert f"/{names[clip.label]}/v_{names[clip.label]}_g" in clip.path
    groups = [{clip.path.split("_g")[1][:2] for clip in clips} for clips in (train, val)]
    assert not groups[0] & groups[1]


def test_ucf_101_takes_labels_from_folders(tmp_path, put):
    """A class whose files are spelled in another way, as HandstandPushups in UCF-101."""
    index = write(tmp_path / "lists" / "classInd.txt", "1 Archery", "", "2 HandstandPushups")
    test = write(
        tmp_path / "lists" / "testlist01.txt", "HandstandPushups/v_HandStandPushups_g01_c01.avi"
    )
    put("HandstandPushups/v_HandStandPushups_g01_c01.avi")
    assert [clip.label for clip in read_clips(test, tmp_path)[0]] == [1]
    write(index, "1 Archery", "HandstandPushups")
    with pytest.raises(DataError, match=r"classInd.txt must have a number and a class in each"):
        read_clips(test, tmp_path)


def test_kinetics_in_any_folders_without_the_files_that_vanished(tmp_path, put, caplog):
    rows = ["-a_b-c,4,14,train", "xyz,10,20,train", "gone,0,10,train", "other,0,10,validate"]
    labels = ["zumba", "air drumming", "zumba", "zumba"]
    file = write(
        tmp_path / "train.csv",
        "label,youtube_id,time_start,time_end,split",
        *(f"{label},{row}" for label, row in zip(labels, rows, strict=True)),
    )
    put("train/zumba/-a_b-c_000004_000014.mp4", "flat/xyz_000010_000020.webm")
    put("xyz.txt", "flat/gone_000001_000011.mp4")
    found = read_clips(file, tmp_path, "train")
    assert found[1] == ["air drumming", "zumba"]
    assert listed(found) == [
        ("-a_b-c_000004_000014.mp4", None, None, 1),
        ("xyz_000010_000020.webm", None, None, 0),
    ]
    assert "1 of the 3 clips" in caplog.text
    assert ": 1 videos are missing, broken or short" in caplog.text
    assert "/gone_000000_000010" in caplog.text


def test_hacs_takes_positive_clips_of_whole_videos(tmp_path, put, caplog):
    file = write(
        tmp_path / "HACS_clips_v1.1.1.csv",
        "classname,youtube_id,subset,start,end,label",
        *("Archery,a,training,0.5,0.8,1", "Archery,a,training,0.2,0.3,-1"),
        *("Zumba,b,training,0.0,2.0,1", "Archery,a,validation,0.4,0.6,1"),
        *("Zumba,gone,training,0,2,1", "Zumba,gone,training,2,4,1"),
        "Archery,a,training,1.5,3.5,1",  # behind the end of the video
    )
    put("Archery/v_a.mp4", "Zumba/b_000000_000002.mp4")
    train = read_clips(file, tmp_path, "train")
    assert listed(train) == [("v_a.mp4", 0.5, 0.8, 0), ("b_000000_000002.mp4", None, None, 1)]
    assert "3 of the 5 clips" in caplog.text
    assert ": 2 videos are missing, broken or short" in caplog.text
    assert f"{tmp_path}/v_gone, {tmp_path}/Archery/v_a.mp4\n" in caplog.text
    val = read_clips(file, tmp_path, "val", file)
    assert val[1] == train[1] == ["Archery", "Zumba"]
    assert listed(val) == [("v_a.mp4", 0.4, 0.6, 0)]


def test_the_authors_lists_of_cut_hacs(tmp_path, put):
    file = write(tmp_path / "a.csv", "label,id,time_start,time_end,split", "Zumba,b,0,2,train")
    put("b_000000_000002.mp4")
    assert listed(read_clips(file, tmp_path)) == [("b_000000_000002.mp4", None, None, 0)]


def test_pyslowfast(tmp_path, put, caplog):
    put("a b.mp4", "c,d.mp4")
    file = write(tmp_path / "train.csv", "a b.mp4 0", "", f"{tmp_path}/c,d.mp4,2")
    found = read_clips(file, tmp_path)
    assert listed(found) == [("a b.mp4", None, None, 0), ("c,d.mp4", None, None, 2)]
    assert found[1] == ["0", "1", "2"]
    file.write_bytes(b"a b.mp4 0\ncaf\xe9.mp4 0\n")
    assert listed(read_clips(file, tmp_path)) == [("a b.mp4", None, None, 0)]
    assert "broken or short: " in caplog.text
    assert "caf\\xe9.mp4" in caplog.text


def test_files_without_a_frame_are_found_beforehand(tmp_path, put, caplog):
    put("a.avi", "cut.avi")
    (tmp_path / "b.avi").write_text("no video")
    # All that is there is a header, which promises 10 frames.
    content = Path(tmp_path / "cut.avi").read_bytes()
    Path(tmp_path / "cut.avi").write_bytes(content[: content.index(b"movi") + 8])
    file = write(tmp_path / "val.csv", "a.avi 0", "b.avi 1", "c.avi 1", "cut.avi 1")
    assert listed(read_clips(file, tmp_path)) == [("a.avi", None, None, 0)]
    assert "3 of the 4 clips" in caplog.text
    assert "b.avi" in caplog.text
    assert "cut.avi" in caplog.text


def test_what_cannot_be_used(tmp_path, put):
    header = "label,youtube_id,time_start,time_end,split"
    with pytest.raises(FileNotFoundError, match=r"must be a list of videos.\nUCF-101: https://"):
        read_clips(tmp_path / "none.csv", tmp_path)
    cases = {
        "a.mp4 zero": "line 1: 'a.mp4 zero' is not a path and a label",
        # A list of as many classes would take all memory.
        "a.mp4 1700000000": "line 1: 'a.mp4 1700000000' is not a path and a label",
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
        FileNotFoundError, match=r"none of the 1 videos of .* can be read: .*a.mp4, \.\.\.\nUCF"
    ):
        read_clips(file, tmp_path)
    put("a.mp4")
    other = write(tmp_path / "train.csv", "label,id,time_start,time_end", "b,a,0,2")
    with pytest.raises(DataError, match="the class '0', none of the 1 classes"):
        read_clips(file, tmp_path, training_list=other)
