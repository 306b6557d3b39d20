import json
import re

import pytest

from softpool_det.statistics.known_spread import read_known_spread


def written(folder, data):
    path = folder / "comparison.json"
    path.write_text(json.dumps(data))
    return path


def test_is_the_widest_range_over_seeds_by_task(tmp_path):
    def figures(*values):
        return {"AP": {"by_seed": list(values)}}

    tasks = {
        "bbox": {"metrics": {"a": figures(40.0, 41.5, 41.0), "b": figures(42.0, 42.5, 42.25)}},
        "segm": {"metrics": {"a": figures(30.0, 30.5, 30.25), "b": figures(33.0, 31.0, 32.0)}},
    }
    path = written(tmp_path, {"seeds": [1, 2, 3], "tasks": tasks})
    assert read_known_spread(path) == {"bbox": 1.5, "segm": 2.0}


def test_what_make_demo_quotes_can_be_read(request):
    for path in (request.config.rootpath / "benchmarks" / "results").glob("demo_*.json"):
        assert read_known_spread(path)["bbox"] > 0


@pytest.mark.parametrize(
    "data",
    [
        {"seeds": [1], "tasks": {"bbox": {"metrics": {"a": {"AP": {"by_seed": [1.0]}}}}}},
        {"seeds": [1, 2], "tasks": {}},
        {"images": []},
        [1, 2],
    ],
)
def test_another_file_is_refused_by_name(tmp_path, data):
    path = written(tmp_path, data)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        read_known_spread(path)


def test_no_json_is_refused_by_name(tmp_path):
    path = tmp_path / "comparison.json"
    path.write_text("{")
    with pytest.raises(ValueError, match=re.escape(str(path))):
        read_known_spread(path)
