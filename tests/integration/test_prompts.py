"""What is segmented: the prompts of a file, the boxes of another, or what a detector finds."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .coco_files import by_photograph, masks_of, read
from .tool import PHOTOGRAPHS, SAMPLES, Done, Log, check_store, query

Command = Callable[..., Done]


def segment(command: Command, *arguments: object) -> Done:
    models = ("-m", "counting-segmenter", "--detector", "counting-detector")
    return command("segment", *arguments, *models, "-o", "out.json", "-o", "out.parquet", "--json")


def put(work: Path, *photographs: str) -> Path:
    folder = work / "photos"
    folder.mkdir(exist_ok=True)
    for name in photographs:
        shutil.copy(SAMPLES / name, folder)
    return folder


# The cup and the table of coffee.png by eye.
CUP_BOX = [170, 15, 412, 310]
ON_THE_CUP, ON_THE_TABLE = [270, 230], [560, 220]

PROMPTS: dict[str, list[dict[str, Any]]] = {
    "coffee.png": [
        {"label": "box", "box": CUP_BOX},
        {"label": "point", "points": [ON_THE_CUP]},
        {"label": "points", "points": [ON_THE_CUP, ON_THE_TABLE], "labels": [1, 0]},
        {"label": "both", "box": CUP_BOX, "points": [ON_THE_CUP], "labels": [1]},
        {"box": [-20, 300, 300, 500]},
    ],
    "chelsea.png": [{"label": "cat", "points": [[230, 190]], "score": 0.25}],
    "astronaut.png": [],
}


def test_prompts_of_every_kind(command: Command, work: Path, log: Log) -> None:
    put(work, *PHOTOGRAPHS)
    (work / "prompts.json").write_text(json.dumps(PROMPTS))
    done = segment(command, "photos", "--prompts", "prompts.json")
    assert done.code == 0, done.err
    assert done.summary["total"] == 4
    assert done.summary["annotations"] == 6
    assert done.summary["empty"] == 2
    assert log.count() == 0
    assert log.count("encode") == 2
    assert log.count("decode") == 6
    found = by_photograph(work / "out.json")
    assert sorted(found["coffee.png"]) == ["both", "box", "object", "point", "points"]
    assert (found["chelsea.png"], found["astronaut.png"]) == (["cat"], [])
    masks = masks_of(work / "out.json", "coffee.png")
    for label in ("box", "point", "points", "both"):
        assert masks[label][ON_THE_CUP[1], ON_THE_CUP[0]] == 1
        assert masks[label][ON_THE_TABLE[1], ON_THE_TABLE[0]] == 0 or label == "point"
    (cat,) = read(work / "out.json").imgToAnns[2]
    assert cat["score"] == 0.25
    check_store(work / ".pixano-annotate")

    again = segment(command, "photos", "--prompts", "prompts.json")
    assert again.counts == {"total": 4, "processed": 0, "cached": 4, "failed": 0}
    assert (log.count("encode"), log.count("decode")) == (2, 6)
    # One more prompt: one more answer, and the image is encoded once more.
    more = PROMPTS | {"chelsea.png": [*PROMPTS["chelsea.png"], {"box": [0, 0, 200, 200]}]}
    (work / "prompts.json").write_text(json.dumps(more))
    assert segment(command, "photos", "--prompts", "prompts.json").summary["annotations"] == 7
    assert (log.count("encode"), log.count("decode")) == (3, 7)
    # Another label or score is no other work.
    renamed = {
        name: [each | {"label": "thing", "score": 0.5} for each in prompts]
        for name, prompts in more.items()
    }
    (work / "prompts.json").write_text(json.dumps(renamed))
    assert segment(command, "photos", "--prompts", "prompts.json").summary["processed"] == 0
    assert {label for each in by_photograph(work / "out.json").values() for label in each} == {
        "thing"
    }
    assert (log.count("encode"), log.count("decode")) == (3, 7)


@pytest.mark.parametrize("concurrency", [1, 2])
def test_an_image_is_encoded_once_however_many_prompts_there_are(
    command: Command,
    work: Path,
    log: Log,
    photos: Callable[..., Path],
    concurrency: int,
) -> None:
    """Prompts of four kinds make four calls, and other images are asked about in between."""
    number = 6
    kinds: list[dict[str, Any]] = [
        {"box": [10, 10, 200, 150]},
        {"points": [[100, 100]]},
        {"points": [[100, 100], [20, 20]]},
        {"box": [10, 10, 200, 150], "points": [[100, 100]]},
    ]
    folder = photos(number)
    many = [kind | {"label": f"{at}"} for at, kind in enumerate(kinds)]
    many += [{"label": f"box {x}", "box": [x, 10, x + 50, 90]} for x in range(0, 120, 30)]
    (work / "prompts.json").write_text(json.dumps({path.name: many for path in folder.iterdir()}))
    done = segment(command, "photos", "--prompts", "prompts.json", "--concurrency", concurrency)
    assert done.code == 0, done.err
    assert log.count("decode") == number * len(many)
    assert set(log.times("encode").values()) == {1}
    assert log.count("encode") == number


def test_prompts_that_do_not_fit_fail_alone(command: Command, work: Path) -> None:
    put(work, "chelsea.png", "coffee.png")
    prompts = {
        "chelsea.png": [{"box": [0, 0, 100, 100]}, {"box": [600, 10, 700, 50]}],
        "coffee.png": [{"box": [0, 0, 100, 100]}],
    }
    (work / "prompts.json").write_text(json.dumps(prompts))
    prompts["elsewhere.png"] = []
    (work / "prompts.json").write_text(json.dumps(prompts))
    done = segment(command, "photos", "--prompts", "prompts.json")
    assert done.code == 3
    assert "1 of the 3 files with prompts are not among the sources" in done.err
    assert done.counts == {"total": 2, "processed": 1, "cached": 0, "failed": 1}
    failure = orjson.loads((work / "out.json.failed.jsonl").read_bytes())
    assert (failure["path"], failure["stage"]) == ("chelsea.png", "prompt")
    prompts["chelsea.png"].pop()
    (work / "prompts.json").write_text(json.dumps(prompts))
    done = segment(command, "photos", "--prompts", "prompts.json")
    assert done.counts == {"total": 2, "processed": 1, "cached": 1, "failed": 0}


def test_one_content_under_two_names_with_prompts_of_their_own(
    command: Command, work: Path, log: Log
) -> None:
    folder = put(work, "chelsea.png")
    shutil.copy(folder / "chelsea.png", folder / "twin.png")
    prompts = {
        "chelsea.png": [{"label": "a", "box": [0, 0, 200, 200]}],
        "twin.png": [
            {"label": "b", "box": [100, 100, 300, 300]},
            {"label": "c", "box": [0, 0, 200, 200]},
        ],
    }
    (work / "prompts.json").write_text(json.dumps(prompts))
    done = segment(command, "photos", "--prompts", "prompts.json")
    assert done.code == 0, done.err
    assert log.count("decode") == 2
    outputs = (work / "out.json").read_bytes()
    assert by_photograph(work / "out.json") == {"chelsea.png": ["a"], "twin.png": ["b", "c"]} or (
        by_photograph(work / "out.json") == {"chelsea.png": ["a"], "twin.png": ["c", "b"]}
    )
    for _ in range(2):
        done = segment(command, "photos", "--prompts", "prompts.json", "--overwrite")
        assert done.counts == {"total": 2, "processed": 2, "cached": 0, "failed": 0}
        assert done.summary["annotations"] == 3
        assert (work / "out.json").read_bytes() == outputs
    # What is overwritten for one run is still there for another.
    first = json.loads((work / "out.json.run.json").read_bytes())["run_id"]
    (work / "prompts.json").write_text(json.dumps({"chelsea.png": [{"box": [9, 9, 99, 99]}]}))
    other = ("photos/*.png", "--prompts", "prompts.json", "--overwrite")
    assert segment(command, *other).code == 0
    assert command("export", "-o", "again.json", "--run", first).code == 0
    assert (work / "again.json").read_bytes() == outputs


def test_boxes_of_a_file_are_segmented(command: Command, work: Path, log: Log) -> None:
    put(work, "chelsea.png", "coffee.png", "rocket.jpg")
    boxes = ("-o", "boxes.json", "-o", "boxes.parquet", "-q")
    assert command("detect", "photos", "-m", "counting-detector", *boxes).code == 0
    assert segment(command, "photos").code == 0
    expected = read(work / "out.json").dataset["annotations"]
    decoded = log.count("decode")
    assert decoded == 3
    for file in ("boxes.json", "boxes.parquet"):
        done = segment(command, "photos", "--from", file)
        assert done.code == 0, done.err
        document = read(work / "out.json").dataset
        assert document["annotations"] == expected
        assert len(document["categories"]) == 80
        # The same boxes of the same image are the same work, whoever names them.
        assert log.count("decode") == decoded
        assert log.count() == 3
    done = segment(command, "photos", "--from", "boxes.json", "--classes", "cup")
    assert done.summary["annotations"] == 1
    assert {label for each in by_photograph(work / "out.json").values() for label in each} == {
        "cup"
    }


def test_an_answer_that_was_deleted_is_asked_for_again(
    command: Command, work: Path, log: Log
) -> None:
    from pixano_cli import inference_store

    put(work, *PHOTOGRAPHS)
    detect = ("detect", "photos", "-m", "counting-detector", "-o", "out.json", "--json")
    assert command(*detect).code == 0
    outputs = (work / "out.json").read_bytes()
    ((inference_id,),) = query(
        work / ".pixano-annotate",
        """SELECT inference_id FROM inferences JOIN items ON data_hash = sha256
        WHERE file_name = 'chelsea.png'""",
    )
    with inference_store.connect(work / ".pixano-annotate"):
        inference_store.delete_inference("counting-detector", inference_id)
    again = command(*detect)
    assert again.counts == {"total": 4, "processed": 1, "cached": 3, "failed": 0}
    assert (work / "out.json").read_bytes() == outputs
    assert log.count() == 5


arbitrary = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)
numbers = st.integers(-10, 500) | st.floats() | arbitrary
prompts = st.fixed_dictionaries(
    {},
    optional={
        "label": st.text(max_size=5) | arbitrary,
        "score": st.floats(0, 1) | arbitrary,
        "box": st.lists(numbers, min_size=3, max_size=5) | arbitrary,
        "points": st.lists(st.lists(numbers, min_size=1, max_size=3), max_size=3) | arbitrary,
        "labels": st.lists(st.integers(-1, 2) | arbitrary, max_size=3) | arbitrary,
    },
)
files = st.one_of(
    st.binary(max_size=50),
    arbitrary.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(
        st.sampled_from(["chelsea.png", "other.png"]), st.lists(prompts, max_size=3) | arbitrary
    ).map(lambda value: json.dumps(value).encode()),
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files)
def test_no_prompts_file_gives_a_traceback(command: Command, work: Path, content: bytes) -> None:
    put(work, "chelsea.png")
    (work / "prompts.json").write_bytes(content)
    done = command("segment", "photos", "--prompts", "prompts.json", "-o", "out.json", "--dry-run")
    assert done.code in (0, 2), done.err
    assert "Traceback" not in done.err
    if done.code == 2:
        assert done.line.startswith("pixano-annotate: ")
        assert "prompts" in done.line
