"""The `store` commands given what they cannot take: one line, and nothing is changed."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixano_cli import inference_store as istore

from .tool import SAMPLES, Commands, Done, query

Command = Callable[..., Done]

LATIN = os.fsdecode(b"caf\xe9")
SQL = "x'); DROP TABLE inferences; --"
LOOKS = ("status", "list", "count", "labels", "stats", "verify", "vacuum")
CONTENTS = "SELECT (SELECT count(*) FROM inferences), (SELECT count(*) FROM metadata)"


def told(command: Command, *arguments: object) -> Any:
    done = command("store", *arguments, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


def check(done: Done, code: int, says: str) -> None:
    assert (done.code, done.out) == (code, ""), done.err
    assert done.line.startswith("pixano-annotate: ")
    assert says in done.line
    assert not re.search(r"unexpected \w+(Error|Exception)", done.line)
    assert len(done.line) < 500


WRONG: list[tuple[list[str], str]] = [
    # Filters
    (["count", "--label"], "--label"),
    (["count", "--min-score", "high"], "--min-score"),
    (["count", "--min-score", "nan"], "--min-score nan: a number is wanted"),
    (["count", "--max-score=-1e999"], "--max-score -inf: a number is wanted"),
    (["count", "--since", "yesterday"], "--since 'yesterday' is no time, or has no zone: write a"),
    (["count", "--since", "2024-05-31T10:00:00"], "is no time, or has no zone: write a date"),
    (["count", "--since", "99999999d"], "--since '99999999d' is no time"),
    (["count", "--until", "2024-02-30"], "--until '2024-02-30' is no time"),
    (["count", "--meta", "width"], "--meta 'width' is no comparison: write key=value"),
    (["count", "--meta", "width==5"], "write one ="),
    (["count", "--meta", "width:int=wide"], "--meta 'width:int=wide': "),
    (["count", "--meta", "width in 1,2"], "is no comparison"),
    (["count", "--near", "48,2"], "--near '48,2': numbers are wanted, as LAT,LON,METRES"),
    (["count", "--near", "48,2,nan"], "numbers are wanted, as LAT,LON,METRES"),
    (["count", "--near", "48,2,-1"], "the radius in metres cannot be negative"),
    (["count", "--near", "91,2,1"], "--near '91,2,1': "),
    (["count", "--within", "1,2,3"], "numbers are wanted, as LAT,LON,LAT,LON"),
    (["count", "--within", "1,2,3,inf"], "numbers are wanted"),
    (["count", "--action", "guess"], "one of detect, embed, predict, predict_proba is wanted"),
    (["count", "--model-id", "picodet"], "did you mean 'picodet-s-416'?"),
    (["count", "--model-id", "yolo"], "it has picodet-s-416, pplcnetv2"),
    # Options of their own
    (["list", "--sort", "size"], "--sort size: one of created_at, label, score is wanted"),
    (["list", "--limit", "-1"], "--limit and --offset: neither can be negative"),
    (["list", "--offset", "-1"], "neither can be negative"),
    (["list", "--limit", "many"], "--limit"),
    (["show"], "Missing argument 'INFERENCE"),
    (["show", "nothing"], "has no inference 'nothing': `pixano-annotate store list` shows"),
    (["show", "", "--model-id", "yolo"], "has no model 'yolo'"),
    (["labels", "--threshold", "nan"], "--threshold nan: a number is wanted"),
    (["stats", "nothing"], "no record has metadata 'nothing': `pixano-annotate store stats` lists"),
    (["stats", "parameters"], "is json, which is neither counted nor drawn"),
    (["stats", "width", "--type", "double"], "--type double: one of float, int, string is wanted"),
    (["stats", "width", "--type", "float"], "metadata 'width' is int, not float"),
    (["stats", "file_name", "--bins", "3"], "metadata 'file_name' is string, not float or int"),
    (["stats", "file_name", "--type", "string", "--bins", "3"], "without bars to set"),
    (["stats", "width", "--bins", "0"], "--bins 0: a number from 1 to 10,000 is wanted"),
    (["stats", "width", "--bins", "3", "--width", "5"], "--bins and --width: give one of them"),
    (["stats", "width", "--width", "0"], "--width 0.0: it has to be more than 0"),
    (["stats", "width", "--width", "1e-9"], "--width 1e-09 makes more than 10000 bins"),
    (["stats", "width", "--minimum", "nan"], "--minimum nan: a number is wanted"),
    (["stats", "width", "--minimum", "5", "--maximum", "1"], "is more than --maximum 1.0"),
    # What changes records
    (["tag", "--set", "a=1"], "say which records to tag, by a filter such as --label, or --all"),
    (["tag", "--all"], "say what to attach with --set KEY=VALUE"),
    (["tag", "--all", "--label", "cat", "--set", "a=1"], "give it without filters"),
    (["tag", "--all", "--set", "a"], "--set 'a': KEY=VALUE or KEY:TYPE=VALUE is wanted"),
    (["tag", "--all", "--set", "=1"], "KEY=VALUE or KEY:TYPE=VALUE is wanted"),
    (["tag", "--all", "--set", " =1"], "KEY=VALUE or KEY:TYPE=VALUE is wanted"),
    (["tag", "--all", "--set", "a:int=1.5"], "--set 'a:int=1.5': the value is no int"),
    (["tag", "--all", "--set", "a:float=nan"], "the value is no float"),
    (["tag", "--all", "--set", 'a:json={"x": NaN}'], "the value is no json"),
    (["tag", "--all", "--set", "a=1", "--set", "a=2"], "--set: key 'a' is named twice"),
    (["tag", "--all", "--set", "a=1", "--unset", "a"], "--unset: key 'a' is named twice"),
    (["tag", "--all", "--unset", ""], "--unset '': a key is wanted"),
    (["tag", "--all", "--set", f"{'k' * 501}=1"], "501 characters"),
    (["tag", "--all", "--unset", "k" * 501], "501 characters"),
    (["protect"], "say which records to protect"),
    (["delete"], "say which records to delete, by a filter such as --label, or --all"),
    (["delete", "--yes"], "say which records to delete"),
    (["delete", "--all", "--label", "cat", "--yes"], "--all means every record"),
    # Arguments that are no text
    (["count", "--label", LATIN], "--label 'caf\\udce9' holds half a surrogate pair"),
    (["count", "--meta", f"a={LATIN}"], "--meta 'a=caf\\udce9' holds half a surrogate pair"),
    (["count", "--source", LATIN], "--source 'caf\\udce9' holds"),
    (["count", "--hash", LATIN], "--hash 'caf\\udce9' holds"),
    (["count", "--since", LATIN], "is no time"),
    (["count", "--model-id", LATIN], "has no model 'caf\\udce9'"),
    (["show", LATIN], "'caf\\udce9' holds half a surrogate pair"),
    (["stats", LATIN], "no record has metadata 'caf\\udce9'"),
    (["tag", "--all", "--set", f"{LATIN}=1"], "holds half a surrogate pair"),
    (["tag", "--all", "--set", f"a={LATIN}"], "holds half a surrogate pair"),
    (["tag", "--all", "--unset", LATIN], "--unset: key 'caf\\udce9' holds half a surrogate pair"),
    # The command itself
    (["lost"], "lost"),
    (["count", "--no-such-option"], "--no-such-option"),
    (["vacuum", "now"], "now"),
]


@pytest.mark.parametrize(
    ("arguments", "says"), WRONG, ids=[ascii(" ".join(each))[1:60] for each, _ in WRONG]
)
def test_wrong_usage(command: Command, record: Path, arguments: list[str], says: str) -> None:
    before = query(record, CONTENTS)
    check(command("store", *arguments), 2, says)
    assert query(record, CONTENTS) == before


class TestWhere:
    @pytest.mark.parametrize("words", [*LOOKS, "export -o out.json", "delete --all --yes"])
    def test_no_store(self, command: Command, work: Path, words: str) -> None:
        for options in ([], ["--store", "none"]):
            done = command("store", *words.split(), *options)
            check(done, 1, "there is none here: name another with --store")
        (work / "empty").mkdir()
        check(command("store", *words.split(), "--store", "empty"), 1, "there is none here")
        (work / "file").write_text("x")
        check(command("store", *words.split(), "--store", "file"), 1, "there is none here")
        assert sorted(path.name for path in work.iterdir()) == ["empty", "file"]

    def test_a_store_that_holds_nothing(self, command: Command, work: Path) -> None:
        istore.connect(work / ".pixano-annotate").close()
        assert told(command, "status")["models"] == []
        shown = command("store", "status")
        assert shown.code == 0
        assert "no model yet: `pixano-annotate detect`, segment and embed record here" in shown.out
        assert told(command, "count") == {"count": 0, "models": {}}
        assert command("store", "count").out == "0\n"
        assert told(command, "list") == []
        assert told(command, "labels") == told(command, "stats") == {}
        for words, note in (
            ("list", "no record"),
            ("labels", "no label"),
            ("stats", "no metadata"),
            ("delete --all --yes", "store .pixano-annotate: no record passes the filters"),
        ):
            done = command("store", *words.split())
            assert (done.code, done.out, done.err) == (0, "", f"{note}\n")
        assert told(command, "verify")["is_sound"]
        assert told(command, "tag", "--all", "--set", "a=1") == {"records": 0}
        check(command("store", "stats", "width"), 2, "no record has metadata 'width'")
        check(command("store", "show", ""), 2, "has no inference")
        check(command("store", "retention", "run"), 2, "it has no model yet")

    def test_the_variable_names_it_and_the_option_another(
        self,
        command: Command,
        recorded: Path,
        work: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("PIXANO_STORE", str(recorded / "store"))
        assert told(command, "status")["store"] == str(recorded / "store")
        assert command("store", "count").out == "10\n"
        istore.connect(work / "other").close()
        assert command("store", "count", "--store", "other").out == "0\n"
        monkeypatch.setenv("PIXANO_STORE", "none")
        check(command("store", "count"), 1, "store none: there is none here")


class TestHostile:
    def test_sql_is_data(self, command: Command, record: Path) -> None:
        before = query(record, "SELECT name FROM sqlite_schema ORDER BY name")
        assert told(command, "tag", "--label", "cat", "--set", f"{SQL}={SQL}")["records"] >= 2
        tagged = told(command, "count", "--meta", f'{SQL}="{SQL}"')["count"]
        assert tagged >= 2
        assert told(command, "stats", SQL)["picodet-s-416"]["string"]["distribution"] == {
            SQL: tagged
        }
        for options in (
            ["--label", "cat' OR '1'='1"],
            ["--label", "%"],
            ["--source", "' OR ''='"],
            ["--hash", "%' --"],
            ["--meta", f"{SQL}=1' OR '1'='1"],
            ["--meta", "file_name=%"],
        ):
            assert told(command, "count", *options)["count"] == 0
        for start in ("%", "_", "' OR 1=1 --"):
            check(command("store", "show", start), 2, "has no inference")
        assert told(command, "tag", "--all", "--unset", SQL)["records"] == 10
        assert told(command, "count", "--meta", f'{SQL}="{SQL}"')["count"] == 0
        assert query(record, "SELECT name FROM sqlite_schema ORDER BY name") == before
        assert told(command, "verify")["is_sound"]

    @pytest.mark.parametrize(
        ("options", "count"),
        [
            (["--min-score", "1e308"], 0),
            (["--max-score", "1e308", "--action", "detect"], 5),
            (["--near", "0,0,1e308"], 2),
            (["--near", "0,0,1e-308"], 0),
            (["--meta", f"width<{'9' * 400}"], 10),
            (["--meta", f"width>{'9' * 400}"], 0),
            (["--meta", "width>1e308"], 0),
            (["--meta", "width<1e308"], 10),
            (["--meta", "width>nan"], 0),
            (["--meta", f"file_name={'x' * 100_000}"], 0),
        ],
    )
    def test_huge_numbers_and_texts(
        self, command: Command, record: Path, options: list[str], count: int
    ) -> None:
        assert told(command, "count", *options)["count"] == count

    def test_huge_pages(self, command: Command, record: Path) -> None:
        huge = str(10**30)
        assert len(told(command, "list", "--limit", huge)) == 10
        assert told(command, "list", "--offset", huge, "--limit", huge) == []

    def test_numbers_that_doubles_do_not_hold_are_drawn(
        self, command: Command, record: Path
    ) -> None:
        assert command("store", "tag", "--all", "--set", f"huge={'9' * 400}").code == 0
        done = command("store", "stats", "huge", "--model-id", "pplcnetv2")
        assert done.out == "huge (int): 5 values, from more than 1.8e308 to more than 1.8e308\n"
        exact = 2**53 + 1
        assert command("store", "tag", "--all", "--set", f"huge={exact}").code == 0
        done = command("store", "stats", "huge", "--model-id", "pplcnetv2")
        assert (done.code, done.out.count("5  █")) == (0, 1)

    def test_what_would_move_a_terminal_is_shown_as_one_character(
        self, command: Command, record: Path
    ) -> None:
        hostile = "\x1b[2J\x1b]0;gone\x07\nsecond line\u202e"
        assert command("store", "tag", "--all", "--set", f"k{hostile}={hostile}").code == 0
        shown = [
            command("store", "show", told(command, "list")[0]["inference_id"]),
            command("store", "stats"),
            command("store", "stats", f"k{hostile}"),
        ]
        for done in shown:
            assert done.code == 0
            assert not {"\x1b", "\x07", "\u202e"} & set(done.out)
            assert "second line" in done.out
            assert "\nsecond line" not in done.out


def test_in_postgresql(commands: Commands, command: Command, new_database: str) -> None:
    """One pass over the commands: what they print is what they print of SQLite."""
    for store in (new_database, ".pixano-annotate"):
        for job in (("detect", "-o", "a.json"), ("embed", "-o", "a.parquet")):
            name, *options = job
            done = command(name, SAMPLES, *options, "--store", store, "-q")
            assert done.code == 0, done.err
    cats = ("--label", "cat", "--min-score", "0.9")
    steps: list[tuple[object, ...]] = [
        ("count",),
        ("count", *cats),
        ("labels",),
        ("stats",),
        ("stats", "width"),
        ("tag", *cats, "--set", f"{SQL}={SQL}"),
        ("count", "--meta", f'{SQL}="{SQL}"'),
        ("stats", SQL),
        ("protect", *cats),
        ("delete", *cats, "--dry-run"),
        ("delete", *cats, "--yes"),
        ("count",),
        ("retention", "set", "--model-id", "pplcnetv2", "--records", "0h", "--hard"),
        ("retention", "run", "--model-id", "pplcnetv2"),
        ("count",),
        ("verify", "--deep"),
        ("list", "--sort", "label", "--limit", 2),
    ]
    for step in steps:
        there = command("store", *step, "--store", new_database)
        here = command("store", *step)
        assert there.code == here.code == 0, there.err
        if step[0] == "list":
            # Ids are made of what was asked; times are not the same.
            assert [row.split()[0] for row in there.out.splitlines()] == [
                row.split()[0] for row in here.out.splitlines()
            ]
        else:
            assert there.out == here.out
    check(command("store", "stats", "width", "--width", "1e-9", "--store", new_database), 2, "bins")
    check(command("store", "tag", "--all", "--unset", LATIN, "--store", new_database), 2, "half")
    status = command("store", "status", "--store", new_database)
    assert status.code == 0
    assert "picodet-s-416  Object Detection" in status.out
    assert ":***@127.0.0.1:" in status.out
    assert "p%40ss" not in status.out
