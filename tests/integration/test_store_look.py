"""`store status | list | show | count | labels | stats`: what they print is what is recorded."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pixano_cli import inference_store as istore

from .tool import PHOTOGRAPHS, Done

Command = Callable[..., Done]

DETECTOR, EMBEDDER = "picodet-s-416", "pplcnetv2"
NAMES = {*PHOTOGRAPHS, "paris.jpg"}


@pytest.fixture(autouse=True)
def store(record: Path) -> Iterator[istore.Store]:
    with istore.connect(record) as opened:
        yield opened


def told(command: Command, *arguments: object) -> Any:
    """Return what a command of `store` prints as JSON."""
    done = command("store", *arguments, "--json")
    assert done.code == 0, done.err
    assert done.out.count("\n") == 1
    return json.loads(done.out)


def printed(command: Command, *arguments: object) -> list[str]:
    done = command("store", *arguments)
    assert done.code == 0, done.err
    return done.out.splitlines()


def inferences(model: str, **filters: Any) -> list[istore.Inference]:
    asked = istore.BaseInferenceFilter(**filters)
    return istore.filter_inferences(model, istore.NewGetInferencesRequest(filters=asked))


def files(found: Any) -> set[tuple[str, str]]:
    """Return which model said something of which file."""
    return {
        (each["model_id"], datum["value"])
        for each in found
        for datum in each["metadata"]
        if datum["key"] == "file_name"
    }


def dumped(found: list[istore.Inference]) -> Any:
    return [each.model_dump(mode="json") for each in found]


class TestStatus:
    def test_as_json(self, command: Command, store: istore.Store) -> None:
        said = told(command, "status")
        assert said["store"] == ".pixano-annotate"
        assert said["size"] == store.size() > 100_000
        assert said["runs"] == 2
        assert said["blobs"] == {
            "where": ".pixano-annotate/blobs",
            "count": 0,
            "size": 0,
            "pending": 0,
        }
        assert [each["model_id"] for each in said["models"]] == [DETECTOR, EMBEDDER]
        tasks = {DETECTOR: "Object Detection", EMBEDDER: "Image Embedding"}
        assert {each["model_id"]: each["task_type"] for each in said["models"]} == tasks
        for each in said["models"]:
            model = istore.get_registered_model(each["model_id"])
            assert model is not None
            assert each["embedding_size"] == model.embedding_size
            times = [found.created_at for found in inferences(each["model_id"])]
            first, last = (datetime.fromisoformat(each[key]) for key in ("first", "last"))
            assert (first, last) == (min(times), max(times))
            assert (each["inferences"], each["protected"], each["hidden"]) == (5, 0, 0)

    def test_for_people(self, command: Command) -> None:
        lines = printed(command, "status")
        assert re.fullmatch(r"store   \.pixano-annotate \([0-9.]+ kB\)", lines[0])
        assert lines[1:4] == ["inputs  0 (none is kept)", "runs    2", ""]
        assert lines[4].split()[:5] == ["MODEL", "TASK", "RECORDS", "PROTECTED", "HIDDEN"]
        assert re.match(r"picodet-s-416  Object Detection   +5  +0  +0  20", lines[5])
        assert re.match(r"pplcnetv2      Image Embedding   +5  +0  +0  20", lines[6])
        assert len(lines) == 7


class TestList:
    def test_as_json_it_is_what_python_gives(self, command: Command) -> None:
        said = told(command, "list")
        assert said == dumped(inferences(DETECTOR)) + dumped(inferences(EMBEDDER))
        assert files(said) == {(model, name) for model in (DETECTOR, EMBEDDER) for name in NAMES}

    def test_for_people(self, command: Command) -> None:
        lines = printed(command, "list", "--label", "cat", "--min-score", "0.9", "--sort", "score")
        assert lines[0].split("  ")[0] == "INFERENCE"
        columns = [lines[0].index(each) for each in ("MADE", "MODEL", "FILE", "FOUND")]
        rows = {line[columns[2] :].split()[0]: line for line in lines[1:]}
        assert set(rows) == {"chelsea.png", "paris.jpg"}
        for line in rows.values():
            assert line[columns[1] :].startswith(DETECTOR)
            assert line[columns[3] :].startswith("cat 0.9")
            assert istore.get_inference(DETECTOR, told(command, "show", line[:12])["inference_id"])

    def test_vectors_are_told_by_their_size(self, command: Command) -> None:
        lines = printed(command, "list", "--action", "embed")
        assert len(lines) == 6
        assert all(line.endswith("1,280 numbers") for line in lines[1:])

    def test_pages(self, command: Command) -> None:
        every = told(command, "list")
        for limit in (1, 3, 5, 9, 10, 11):
            pages: list[Any] = []
            for offset in range(0, 10, limit):
                done = command("store", "list", "--limit", limit, "--offset", offset)
                rest = 10 - offset - limit
                more = f"there are more: --offset {offset + limit} goes on, --limit shows more\n"
                assert done.err == (more if rest > 0 else "")
                assert len(done.out.splitlines()) == 1 + min(limit, 10 - offset)
                pages += told(command, "list", "--limit", limit, "--offset", offset)
            assert pages == every
        done = command("store", "list", "--offset", 10)
        assert (done.code, done.out, done.err) == (0, "", "no record\n")
        assert told(command, "list", "--offset", 10) == []

    @pytest.mark.parametrize("field", ["created_at", "label", "score"])
    def test_sorts_as_python_does(self, command: Command, field: str) -> None:
        for options, direction in (
            ([], istore.PaginationSortDirection.ASCENDING),
            (["--descending"], istore.PaginationSortDirection.DESCENDING),
        ):
            page = istore.Pagination(
                sort=istore.PaginationGranularInferenceSortField(field), direction=direction
            )
            wanted = istore.filter_inferences(
                DETECTOR, istore.NewGetInferencesRequest(pagination=page)
            )
            said = told(command, "list", "--model-id", DETECTOR, "--sort", field, *options)
            assert said == dumped(wanted)


class TestShow:
    def test_all_of_a_record(self, command: Command) -> None:
        (cat,) = inferences(
            DETECTOR,
            metadata_filter=[
                istore.MetadataFilter(
                    key="file_name",
                    operator=istore.MetadataFilterOperator.EQUAL,
                    type=istore.MetadataFilterType.STRING,
                    value="chelsea.png",
                )
            ],
        )
        assert told(command, "show", cat.inference_id) == cat.model_dump(mode="json")
        lines = printed(command, "show", cat.inference_id[:10])
        said = dict(line.split(maxsplit=1) for line in lines[:10])
        assert said["inference"] == cat.inference_id
        assert said["model"] == DETECTOR
        assert said["action"] == "detect"
        assert said["made"] == f"{cat.created_at:%Y-%m-%d %H:%M:%S} UTC"
        assert said["protected"] == "no"
        assert said["sha256"] == cat.data_hash
        assert said["place"] == "-"
        assert said["input"] == "not kept in the store"
        assert cat.metadata is not None
        for each in cat.metadata:
            assert any(line.split()[:2] == [each.key, each.type] for line in lines)
        assert any(re.match(r"cat +0\.97\d  xmin -?\d+\.\d, ymin", line) for line in lines)
        elements = len(json.loads(cat.data or ""))
        assert lines[-1] == f"... and {elements - 20} more: --json shows all"

    def test_a_vector(self, command: Command) -> None:
        vector = inferences(EMBEDDER)[0]
        lines = printed(command, "show", vector.inference_id)
        assert re.fullmatch(r"1,280 numbers: ([-0-9.e]+, ){6}\.\.\.", lines[-1])
        assert told(command, "show", vector.inference_id) == vector.model_dump(mode="json")

    def test_an_ambiguous_start(self, command: Command) -> None:
        done = command("store", "show", "")
        assert done.code == 2
        assert "is the start of several (" in done.line
        assert done.line.endswith("give more of it")
        assert command("store", "show", "none").code == 2


class TestLabels:
    def test_counts_what_the_records_hold(self, command: Command) -> None:
        for threshold in (None, 0.5):
            counts: dict[str, list[float]] = {}
            holders: dict[str, set[str]] = {}
            for each in inferences(DETECTOR):
                for element in json.loads(each.data or ""):
                    if threshold is None or element["score"] >= threshold:
                        counts.setdefault(element["label"], []).append(element["score"])
                        holders.setdefault(element["label"], set()).add(each.inference_id)
            ranked = sorted(counts, key=lambda label: (-len(counts[label]), label))
            wanted = [
                {
                    "label": label,
                    "elements": len(counts[label]),
                    "inferences": len(holders[label]),
                    "best": max(counts[label]),
                }
                for label in ranked
            ]
            options = [] if threshold is None else ["--threshold", threshold]
            said = told(command, "labels", *options)
            assert said == {DETECTOR: wanted, EMBEDDER: []}
            lines = printed(command, "labels", "--model-id", DETECTOR, *options)
            assert lines[0].split("  ")[0] == "LABEL"
            assert [" ".join(line.split()[:-3]) for line in lines[1:]] == ranked

    def test_none(self, command: Command) -> None:
        done = command("store", "labels", "--threshold", 2)
        assert (done.code, done.out, done.err) == (0, "", "no label\n")


class TestStats:
    def test_the_keys(self, command: Command) -> None:
        said = told(command, "stats")
        for model in (DETECTOR, EMBEDDER):
            counted = istore.get_metadata_key_type_counts(model)
            assert counted is not None
            assert said[model] == counted.counts
        assert said[DETECTOR]["captured_at"] == {"string": 1}
        assert said[DETECTOR]["width"] == {"int": 5}
        lines = printed(command, "stats", "--model-id", DETECTOR)
        assert ["width", "int", "5"] in [line.split() for line in lines]

    @pytest.mark.parametrize(
        ("options", "fields"),
        [
            ([], {}),
            (["--bins", 3], {"distribution_bin_count": 3}),
            (["--width", 50], {"distribution_bin_width": 50}),
            (
                ["--minimum", 400, "--maximum", 500],
                {"distribution_minimum_value": 400, "distribution_maximum_value": 500},
            ),
        ],
    )
    def test_as_json_it_is_what_python_gives(
        self, command: Command, options: list[object], fields: dict[str, Any]
    ) -> None:
        said = told(command, "stats", "width", *options)
        for model in (DETECTOR, EMBEDDER):
            request = istore.NewGetMetadataStatisticsRequest(
                key="width", type=istore.MetadataStatisticsType.INT, **fields
            )
            measured = istore.get_metadata_statistics(model, request)
            assert measured is not None
            assert said[model]["int"] == measured.model_dump(mode="json")

    def test_integers_are_drawn_in_ranges_of_integers(self, command: Command) -> None:
        widths = [
            each.value
            for found in inferences(DETECTOR)
            for each in found.metadata or ()
            if each.key == "width"
        ]
        assert sorted(map(int, widths)) == [360, 451, 512, 600, 640]
        lines = printed(command, "stats", "width", "--model-id", DETECTOR)
        assert lines[0] == "width (int): 5 values, from 360 to 640"
        rows = [re.fullmatch(r"(\d+) to (\d+)  ([01])(  █+)?", line) for line in lines[1:]]
        ranges = [(int(row[1]), int(row[2]), int(row[3])) for row in rows if row]
        assert len(ranges) == len(rows) == 10
        assert (ranges[0][0], ranges[-1][1]) == (360, 640)
        assert all(low[1] + 1 == high[0] for low, high in pairwise(ranges))
        for first, last, count in ranges:
            assert sum(first <= int(width) <= last for width in widths) == count

    def test_a_few_integers_are_drawn_one_by_one(self, command: Command) -> None:
        for index, each in enumerate(inferences(DETECTOR)):
            options = ["--meta", f"file_name={files(dumped([each])).pop()[1]}"]
            tag = ["tag", *options, "--model-id", DETECTOR, "--set", f"stars={index}"]
            assert command("store", *tag).code == 0
        lines = printed(command, "stats", "stars", "--model-id", DETECTOR)
        assert [line.split()[:2] for line in lines[1:]] == [[str(each), "1"] for each in range(5)]

    def test_texts_are_counted(self, command: Command) -> None:
        lines = printed(command, "stats", "provider", "--model-id", DETECTOR)
        assert lines[0] == "provider (string): 5 values, 1 different"
        assert lines[1].startswith("local  5  ██")

    def test_filters_choose_the_records(self, command: Command) -> None:
        lines = printed(command, "stats", "width", "--hash", "0" * 64)
        assert lines[:1] + lines[2:] == [f"{DETECTOR}:", "", f"{EMBEDDER}:", lines[1]]
        assert lines[1] == "width (int): 0 values"
        # Where only one model has such records, nothing is said of the other.
        lines = printed(command, "stats", "width", "--label", "cat", "--min-score", "0.9")
        assert lines[:2] == [f"{DETECTOR}:", "width (int): 2 values, from 360 to 451"]
        assert f"{EMBEDDER}:" not in lines


EVERY = NAMES
FILTERS: list[tuple[list[str], set[str]]] = [
    (["--label", "cat", "--min-score", "0.9"], {"chelsea.png", "paris.jpg"}),
    (["--label", "cat", "--label", "cup", "--min-score", "0.9"],
     {"chelsea.png", "paris.jpg", "coffee.png"}),
    (["--label", "cat", "--min-score", "0.9", "--meta", "height=300", "--meta", "width>400"],
     {"chelsea.png"}),
    (["--label", "no such label"], set()),
    (["--min-score", "0.95"], {"chelsea.png", "paris.jpg", "astronaut.png"}),
    (["--max-score", "0.04"], set()),
    (["--max-score", "0.5"], EVERY),
    (["--since", "1h"], EVERY),
    (["--since", "2020-01-01"], EVERY),
    (["--since", "2020-01-01T10:00:00+02:00", "--until", "2020-12-31"], set()),
    (["--until", "1h"], set()),
    (["--until", "9999-12-31"], EVERY),
    (["--meta", "width=451"], {"chelsea.png"}),
    (["--meta", "width!=451"], EVERY - {"chelsea.png"}),
    (["--meta", "width>=600"], {"coffee.png", "rocket.jpg"}),
    (["--meta", "width in [451, 600]"], {"chelsea.png", "coffee.png"}),
    (["--meta", "width:int<400"], {"paris.jpg"}),
    (["--meta", "width<400.5"], {"paris.jpg"}),
    (["--meta", "width:float<400.5"], set()),
    (["--meta", "width:string=451"], set()),
    (["--meta", "file_name=rocket.jpg"], {"rocket.jpg"}),
    (["--meta", 'file_name="rocket.jpg"'], {"rocket.jpg"}),
    (["--meta", "parameters.box_threshold=0.05"], EVERY),
    (["--meta", "parameters.box_threshold:json.float>0.05"], set()),
    (["--meta", "captured_at>=2023-05-01"], {"paris.jpg"}),
    (["--meta", "captured_at<2023-05-01"], set()),
    (["--near", "48.8584,2.2945,200"], {"paris.jpg"}),
    (["--near", "48.8684,2.2945,200"], set()),
    (["--within", "49,2,48,3"], {"paris.jpg"}),
    (["--within", "-1,-1,1,1"], set()),
    (["--hash", "0" * 64], set()),
    (["--source", "nowhere"], set()),
    (["--action", "detect"], EVERY),
    (["--action", "predict"], set()),
]  # fmt: skip


@pytest.mark.parametrize(("options", "wanted"), FILTERS, ids=[" ".join(o) for o, _ in FILTERS])
def test_filters(command: Command, options: list[str], wanted: set[str]) -> None:
    of_detector = ["--model-id", DETECTOR, *options]
    found = told(command, "list", *of_detector)
    assert files(found) == {(DETECTOR, name) for name in wanted}
    assert told(command, "count", *of_detector) == {
        "count": len(wanted),
        "models": {DETECTOR: len(wanted)},
    }
    assert printed(command, "count", *of_detector) == [str(len(wanted))]
    assert len(told(command, "list", *options)) == int(printed(command, "count", *options)[0])


def test_input_and_source_as_filters(command: Command, recorded: Path) -> None:
    digest = sha256((recorded / "photos" / "coffee.png").read_bytes()).hexdigest()
    coffee = {(model, "coffee.png") for model in (DETECTOR, EMBEDDER)}
    assert files(told(command, "list", "--hash", digest)) == coffee
    (source,) = {each.data_source for each in inferences(DETECTOR)}
    assert source
    assert told(command, "count", "--source", source)["count"] == 10


def test_ages_and_times_are_exact(command: Command) -> None:
    times = sorted(each.created_at for each in inferences(DETECTOR))
    middle = times[2].isoformat()
    wanted = sum(time >= times[2] for time in times)
    options = ["--model-id", DETECTOR]
    assert told(command, "count", "--since", middle, *options)["count"] == wanted
    wanted = sum(time <= times[2] for time in times)
    assert told(command, "count", "--until", middle, *options)["count"] == wanted


def test_where_and_when_a_photograph_was_taken_is_kept(command: Command) -> None:
    (found,) = told(command, "list", "--near", "48.8584,2.2945,200", "--model-id", DETECTOR)
    lines = printed(command, "show", found["inference_id"])
    (place,) = [line for line in lines if line.startswith("place ")]
    latitude, longitude = map(float, place.removeprefix("place").split(","))
    assert (latitude, longitude) == pytest.approx((48 + 51 / 60 + 30 / 3600, 2 + 17.67 / 60))
    assert ["captured_at", "string", "2023-05-01T12:30:00+02:00"] in [
        line.split() for line in lines
    ]


def test_similar(command: Command, recorded: Path) -> None:
    """Another part of a photograph is next to it."""
    chelsea = recorded / "photos" / "chelsea.png"
    said = told(command, "similar", chelsea)
    vectors = {each.inference_id: each.structured_embedding for each in inferences(EMBEDDER)}
    (itself,) = (each for each in said if ("pplcnetv2", "chelsea.png") in files([each]))
    asked = istore.NewGetInferencesRequest(
        embedding_filters=istore.EmbeddingFilter(
            query_embedding=vectors[itself["inference_id"]] or []
        ),
        pagination=istore.Pagination(
            sort=istore.PaginationEmbeddingSortField.EMBEDDING_DISTANCE, limit=10
        ),
    )
    assert said == dumped(istore.filter_inferences(EMBEDDER, asked))
    lines = printed(command, "similar", chelsea, "--limit", 2)
    assert [line.split()[0] for line in lines] == ["DISTANCE", "0.000", lines[2].split()[0]]
    assert [line.split()[1] for line in lines[1:]] == ["chelsea.png", "paris.jpg"]
    near = told(command, "similar", chelsea, "--near", "48.8584,2.2945,200")
    assert files(near) == {(EMBEDDER, "paris.jpg")}
    for arguments in (["none.jpg"], [recorded / "photos"], [chelsea, "--limit", -1]):
        done = command("store", "similar", *arguments)
        assert (done.code, done.out) == (2, "")
        assert done.line
