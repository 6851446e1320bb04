"""`segment --everything` from the command line to the file on disk."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import pixano_cli
from pixano_cli import rle
from pixano_cli.errors import UsageError
from pixano_cli.inference.errors import TaskNotSupportedError

from .coco_files import read
from .tool import SAMPLES, Commands, Done, Log, check_store, query

Command = Callable[..., Done]

COUNTED = ("-m", "counting-segmenter")
EVERYTHING = ("segment", "photos", "--everything", "--points-per-side", 3, *COUNTED, "--json")
POINTS = 9


def annotations(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_bytes())["annotations"]
    return found


@pytest.fixture
def everything(command: Command, log: Log, photos: Callable[..., Path]) -> Done:
    """The end of a run over two photographs."""
    photos(2)
    done = command(*EVERYTHING, "-o", "out.json")
    assert done.code == 0, done.err
    return done


def test_masks_without_prompts(everything: Done, log: Log, work: Path) -> None:
    assert everything.counts == {"total": 2, "processed": 2, "cached": 0, "failed": 0}
    assert everything.summary["annotations"] > 2
    assert (log.count("encode"), log.count("decode")) == (2, 2 * POINTS)
    coco = read(work / "out.json")
    for image in coco.dataset["images"]:
        masks = [coco.annToMask(each) for each in coco.imgToAnns[image["id"]]]
        assert all(mask.shape == (image["height"], image["width"]) for mask in masks)
    content = json.loads((work / "out.json").read_bytes())
    assert content["categories"] == [{"id": 1, "name": "object"}]
    assert all(each["score"] >= 0.8 for each in content["annotations"])
    info = content["info"]
    assert (info["threshold"], info["min_stability"], info["min_area"]) == (0.8, 0.95, 0)
    (request,) = info["requests"]
    assert request["parameters"]["points_per_side"] == 3
    check_store(work / ".pixano-annotate")
    (kept,) = query(work / ".pixano-annotate", "SELECT count(*) FROM inferences")
    assert kept == (2,)
    (data,) = query(work / ".pixano-annotate", "SELECT data FROM inferences LIMIT 1")[0]
    for element in json.loads(data):
        assert element.keys() == {"label", "score", "rle", "iou", "stability", "point"}
        assert 0.5 <= element["iou"] <= 1
        assert 0.8 <= element["stability"] <= 1


def test_again_nothing_is_asked_and_thresholds_are_applied_when_writing(
    command: Command, everything: Done, log: Log, work: Path
) -> None:
    log.clear()
    again = command(*EVERYTHING, "-o", "again.json")
    assert again.counts == {"total": 2, "processed": 0, "cached": 2, "failed": 0}
    assert (work / "again.json").read_bytes() == (work / "out.json").read_bytes()
    found = annotations(work / "out.json")

    low = command(*EVERYTHING, "-o", "low.json", "--threshold", 0.5, "--min-stability", 0.8)
    assert low.counts["cached"] == 2
    more = annotations(work / "low.json")
    assert len(more) > len(found)

    middle = sorted(each["area"] for each in found)[len(found) // 2]
    large = command(*EVERYTHING, "-o", "large.json", "--min-area", int(middle))
    assert large.counts["cached"] == 2
    kept = annotations(work / "large.json")
    assert 0 < len(kept) < len(found)
    assert {each["area"] for each in kept} == {
        each["area"] for each in found if each["area"] >= middle
    }
    command("segment", "photos", "--everything", "--points-per-side", 3, *COUNTED, "-o", "a.json")
    assert log.count("encode") == log.count("decode") == 0

    # Another grid, or a threshold below what is recorded, is asked for.
    other = command(*EVERYTHING, "-o", "o.json", "--points-per-side", 2)
    assert other.counts["processed"] == 2
    assert log.count("decode") == 2 * 4
    lowest = command(*EVERYTHING, "-o", "l.json", "--threshold", 0.3)
    assert lowest.counts["processed"] == 2


def test_export_writes_it_in_any_format(command: Command, everything: Done, work: Path) -> None:
    found = annotations(work / "out.json")
    done = command("export", "-o", "out.parquet", "--json")
    assert done.summary["annotations"] == len(found)
    rows = pq.read_table(work / "out.parquet").to_pylist()
    masks = [each["mask"]["counts"] for row in rows for each in row["annotations"]]
    assert masks == [each["segmentation"]["counts"] for each in found]
    command("export", "-o", "high.json", "--threshold", 0.97)
    high = [each["score"] for each in annotations(work / "high.json")]
    assert high == [each["score"] for each in found if each["score"] >= 0.97]
    low = command("export", "-o", "x.json", "--threshold", 0.2)
    assert low.code == 2
    assert "--everything again with --threshold 0.2" in low.line
    (work / "labels.json").write_text('[{"id": 7, "name": "object"}]')
    assert command("export", "-o", "c.json", "--categories", "labels.json").code == 0
    assert {each["category_id"] for each in annotations(work / "c.json")} == {7}
    (work / "labels.json").write_text('[{"id": 7, "name": "cat"}]')
    for option, value in (("--classes", "object"), ("--categories", "labels.json")):
        assert command("export", "-o", "x.json", option, value).code == 2


def test_a_broken_file_fails_alone(command: Command, photos: Callable[..., Path]) -> None:
    folder = photos(1)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 no image")
    done = command(*EVERYTHING, "-o", "out.json")
    assert done.code == 3
    assert done.counts == {"total": 2, "processed": 1, "cached": 0, "failed": 1}
    assert done.summary["annotations"] > 0


def test_a_killed_run_goes_on(
    commands: Commands, command: Command, log: Log, photos: Callable[..., Path], work: Path
) -> None:
    photos(5)
    arguments = (*EVERYTHING, "-o", "out.json", "--concurrency", 1)
    commands.environment["COUNTING_DELAY"] = "0.05"
    started = commands.start(*arguments)
    assert started.until(lambda: len(log) > 2 * (POINTS + 1) + 3)
    assert started.end(9).code == -9
    commands.environment["COUNTING_DELAY"] = "0"
    done = commands.run(*arguments)
    assert done.code == 0, done.err
    assert done.counts["cached"] == 2
    assert log.count("encode") == 6
    killed = (work / "out.json").read_bytes()
    fresh = command(*EVERYTHING, "-o", "out.json", "--store", "fresh")
    assert fresh.counts["processed"] == 5
    assert (work / "out.json").read_bytes() == killed


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--everything", "--prompts", "p.json"), "--prompts: --everything segments all"),
        (("--everything", "--from", "b.json"), "--from: --everything segments all"),
        (("--everything", "--detector", "d"), "--detector: --everything segments all"),
        (("--everything", "--classes", "cat"), "--classes: --everything knows no classes"),
        (("--everything", "--points-per-side", "0"), "--points-per-side 0: 1 to 64"),
        (("--everything", "--min-stability", "0.955"), "--min-stability 0.955: a number"),
        (("--everything", "--min-area", "-1"), "--min-area -1: 0 or more"),
        (("--everything", "-m", "picodet-s-416"), "gives boxes, not masks"),
        (("--points-per-side", "4"), "--points-per-side: it is for --everything"),
        (("--min-stability", "0.5"), "--min-stability: it is for --everything"),
        (("--min-area", "5"), "--min-area: it is for --everything"),
        (("--model-config", "a.yaml"), "--model-config: it says of which network"),
        (("--checkpoint", "own.pt"), "--checkpoint: name the model"),
        (("--compile",), "--compile: name the model"),
        (("--compile", "-m", "mobile-sam"), "nor is it compiled"),
        (("--checkpoint", "none.pt", "-m", "mobile-sam"), "there is no file none.pt"),
        (("--checkpoint", "own.pt", "-m", "mobile-sam"), "mobile-sam' has its weights in its"),
        (
            ("--checkpoint", "own.pt", "-m", "a", "-p", "pixano-inference"),
            "provider 'pixano-inference' cannot take these options: --checkpoint",
        ),
    ],
)
def test_options_that_do_not_fit(
    command: Command, work: Path, options: tuple[str, ...], text: str
) -> None:
    (work / "own.pt").write_bytes(b"weights")
    done = command("segment", SAMPLES / "coffee.png", "-o", "out.json", *options)
    assert done.code == 2, done.err
    assert text in done.line
    assert not (work / "out.json").exists()


def test_a_server_makes_masks_for_prompts_only(command: Command) -> None:
    from pixano_cli.annotate.event_loop import run_to_end
    from pixano_cli.annotate.everything import Wanted, everything_of
    from pixano_cli.annotate.settings import Settings
    from pixano_cli.inference.provider import InferenceProvider, ModelDescription
    from pixano_cli.inference.types import InferenceTask

    class Remote(InferenceProvider):
        name = "remote"  # type: ignore[assignment]
        get_capabilities = get_server_info = list_models = None  # type: ignore[assignment]
        image_mask_generation = image_zero_shot_detection = None  # type: ignore[assignment]
        text_image_conditional_generation = None  # type: ignore[assignment]
        video_mask_generation = None  # type: ignore[assignment]

        async def describe_model(self, model_name: str, task: Any = None) -> ModelDescription:
            return ModelDescription(model_name, InferenceTask.MASK_GENERATION)

    asked = everything_of(Settings(), "sam", Wanted()).assign(Remote())
    with pytest.raises(TaskNotSupportedError, match="model 'sam' of provider 'remote' makes masks"):
        run_to_end(asked)


def test_python_says_the_same(work: Path, command: Command, everything: Done) -> None:
    summary = pixano_cli.segment(
        "photos",
        "python.json",
        model="counting-segmenter",
        everything=True,
        points_per_side=3,
        min_area=50,
    )
    assert (summary.cached, summary.processed) == (2, 0)
    found = annotations(work / "python.json")
    assert found == [
        {**each, "id": index}
        for index, each in enumerate(
            (each for each in annotations(work / "out.json") if each["area"] >= 50), start=1
        )
    ]
    for each in found:
        mask = rle.CompressedRLEData.from_dict(each["segmentation"])
        assert rle.area(mask) == each["area"]
    with pytest.raises(UsageError, match="--min-area"):
        pixano_cli.segment("photos", "python.json", min_area=50)
