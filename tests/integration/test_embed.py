"""`embed` from the command line to the file on disk, with the engine's promises kept."""

import json
import random
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import pixano_cli
from pixano_cli import inference_store as istore
from pixano_cli.errors import UsageError

from .test_resume import Killer, hidden
from .tool import SAMPLES, Commands, Done, Log, check_store, query

Command = Callable[..., Done]

NUMBER = 10
COUNTED = ("-m", "counting-embedder")
EMBED = ("embed", "photos", *COUNTED, "-o", "out.parquet", "--json")


def rows(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return found


def counts(total: int, *, processed: int = 0, failed: int = 0) -> dict[str, int]:
    cached = total - processed - failed
    return {"total": total, "processed": processed, "cached": cached, "failed": failed}


@pytest.fixture
def embedded(command: Command, work: Path, log: Log, photos: Callable[..., Path]) -> Done:
    """The end of a run over a folder of photographs."""
    photos(NUMBER)
    done = command(*EMBED)
    assert done.code == 0, done.err
    assert done.counts == counts(NUMBER, processed=NUMBER)
    assert log.count("embed") == NUMBER
    return done


def test_the_photographs(command: Command, work: Path) -> None:
    """What the README shows: the embedded model, on the samples, as one command."""
    done = command("embed", SAMPLES, "-o", "vectors.parquet", "--json")
    assert done.code == 0, done.err
    assert done.summary["annotations"] == done.summary["total"] == 4
    assert (done.summary["task"], done.summary["model"]) == ("embed", "pplcnetv2")
    assert done.summary["empty"] == 0
    assert "4 vectors" in done.err
    assert sorted(path.name for path in work.iterdir()) == [
        ".pixano-annotate",
        "vectors.parquet",
        "vectors.parquet.run.json",
    ]
    found = rows(work / "vectors.parquet")
    names = ["astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"]
    assert [row["file_name"] for row in found] == names
    for row in found:
        path = SAMPLES / row["file_name"]
        assert row["sha256"] == sha256(path.read_bytes()).hexdigest()
        assert (row["width"], row["height"]) == Image.open(path).size
        assert row["orientation"] == 1
        assert len(row["embedding"]) == 1280
    schema = pq.read_schema(work / "vectors.parquet")
    assert str(schema.field("embedding").type) == "fixed_size_list<element: float>[1280]"
    provenance = json.loads(schema.metadata[b"pixano"])
    assert provenance["task"] == "embed"
    (request,) = provenance["requests"]
    assert (request["task"], request["model"]) == ("image_embedding", "pplcnetv2")
    assert str(work) not in json.dumps(provenance)


def test_the_record_holds_what_the_file_holds(command: Command, work: Path) -> None:
    assert command("embed", SAMPLES, "-o", "vectors.parquet").code == 0
    with istore.connect(work / ".pixano-annotate"):
        model = istore.get_registered_model("pplcnetv2")
        inferences = istore.filter_inferences("pplcnetv2", istore.NewGetInferencesRequest())
    assert model is not None
    assert model.embedding_size == 1280
    assert {each.inference_action for each in inferences} == {"embed"}
    assert {each.version for each in inferences} == {"v1"}
    recorded = {each.data_hash: each.structured_embedding for each in inferences}
    assert recorded == {row["sha256"]: row["embedding"] for row in rows(work / "vectors.parquet")}


def test_an_image_on_its_side_is_embedded_upright(command: Command, work: Path) -> None:
    (work / "photos").mkdir()
    upright = Image.open(SAMPLES / "coffee.png").convert("RGB")
    upright.save(work / "photos" / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(work / "photos" / "turned.png", exif=exif)
    assert command("embed", "photos", "-o", "out.parquet").code == 0
    turned, plain = rows(work / "out.parquet")
    assert turned["embedding"] == plain["embedding"]
    facts = [(row["width"], row["height"], row["orientation"]) for row in (turned, plain)]
    assert facts == [(600, 400, 6), (600, 400, 1)]


def test_the_same_command_again_asks_nothing(
    command: Command, work: Path, log: Log, embedded: Done
) -> None:
    first = (work / "out.parquet").read_bytes()
    again = command(*EMBED)
    assert again.counts == counts(NUMBER)
    assert again.summary["annotations"] == NUMBER
    assert log.count("embed") == NUMBER
    assert (work / "out.parquet").read_bytes() == first
    check_store(work / ".pixano-annotate")


def test_outputs_do_not_depend_on_concurrency_or_on_names(
    command: Command, work: Path, log: Log, embedded: Done
) -> None:
    first = (work / "out.parquet").read_bytes()
    for concurrency in (1, 5):
        store = work / f"store{concurrency}"
        assert command(*EMBED, "--store", store, "--concurrency", concurrency).code == 0
        assert (work / "out.parquet").read_bytes() == first
    name = sorted((work / "photos").iterdir())[0]
    shutil.copy(name, work / "photos" / "zzz.jpg")
    before = log.count("embed")
    fresh = command(*EMBED, "--store", work / "fresh", "--concurrency", 4)
    assert fresh.counts == counts(NUMBER + 1, processed=NUMBER)
    assert log.count("embed") - before == NUMBER
    found = rows(work / "out.parquet")
    assert found[0] == found[-1] | {"file_name": name.name}


def test_overwrite_asks_again_and_replaces(
    command: Command, work: Path, log: Log, embedded: Done
) -> None:
    first = (work / "out.parquet").read_bytes()
    store = work / ".pixano-annotate"
    before = query(store, "SELECT count(*), max(position) FROM embeddings")
    again = command(*EMBED, "--overwrite")
    assert again.counts == counts(NUMBER, processed=NUMBER)
    assert log.count("embed") == 2 * NUMBER
    assert (work / "out.parquet").read_bytes() == first
    assert query(store, "SELECT count(*), max(position) FROM embeddings") == [
        (NUMBER, before[0][1] + NUMBER)
    ]
    check_store(store)


def test_a_postgresql_store_gives_the_same_file(
    command: Command, work: Path, log: Log, embedded: Done, new_database: str
) -> None:
    first = (work / "out.parquet").read_bytes()
    for processed in (NUMBER, 0):
        done = command(*EMBED, "--store", new_database)
        assert done.counts == counts(NUMBER, processed=processed), done.err
        assert (work / "out.parquet").read_bytes() == first
    assert command(*EMBED, "--store", new_database, "--overwrite").code == 0
    assert command("export", "-o", "again.parquet", "--store", new_database).code == 0
    assert (work / "again.parquet").read_bytes() == first
    assert log.count("embed") == 3 * NUMBER


def test_a_dry_run_does_nothing(command: Command, work: Path, log: Log, embedded: Done) -> None:
    (work / "photos" / "new.jpg").write_bytes((SAMPLES / "rocket.jpg").read_bytes())
    contents = "SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM items)"

    def seen() -> object:
        return (work / "out.parquet").read_bytes(), query(work / ".pixano-annotate", contents)

    before = seen()
    done = command(*EMBED, "--dry-run")
    assert json.loads(done.out) == {
        "task": "embed",
        "model": "counting-embedder",
        "provider": "local",
        "total": NUMBER + 1,
        "cached": NUMBER,
        "pending": 1,
    }
    assert log.count("embed") == NUMBER
    assert seen() == before
    new = command(*EMBED, "--dry-run", "--store", "other")
    assert json.loads(new.out)["cached"] == 0
    assert not (work / "other").exists()


def test_bad_files_and_bad_answers_stop_nothing(command: Command, work: Path, log: Log) -> None:
    photos = work / "photos"
    photos.mkdir()
    for width in range(100, 108):
        Image.new("RGB", (width, 50), "grey").save(photos / f"{width}.png")
    (photos / "text.jpg").write_text("no image")
    embed = ("embed", "photos", "-m", "hostile-embedder", "-o", "out.parquet", "--json")
    # The size of its vectors is that of the first, whichever is read first of several.
    assert command("embed", "photos/100.png", *embed[2:]).code == 0
    done = command(*embed)
    assert done.code == 3
    assert done.counts == counts(9, processed=1, failed=7)
    assert [row["file_name"] for row in rows(work / "out.parquet")] == ["100.png", "107.png"]
    assert rows(work / "out.parquet")[0]["embedding"] == [0.5, 1.5, 2.5]
    lines = (work / "out.parquet.failed.jsonl").read_text().splitlines()
    failed = {each["path"]: each for each in map(json.loads, lines)}
    assert {name: each["stage"] for name, each in failed.items()} == {
        **{f"{width}.png": "infer" for width in range(101, 107)},
        "text.jpg": "decode",
    }
    assert "out of luck" in failed["101.png"]["message"]
    assert "not finite" in failed["102.png"]["message"]
    assert "a vector of 2 numbers, where 3 are recorded" in failed["103.png"]["message"]
    assert "where one of 3 numbers was asked for" in failed["105.png"]["message"]
    assert "not finite" in failed["106.png"]["message"]
    asked = log.count("embed")
    again = command(*embed, "--max-failures", 7)
    assert again.code == 0
    assert again.counts == counts(9, failed=7)
    assert log.count("embed") - asked == 6


def test_where_nothing_could_be_done_the_file_is_there_and_empty(
    command: Command, work: Path
) -> None:
    (work / "photos").mkdir()
    (work / "photos" / "text.jpg").write_text("no image")
    for model, kind in (
        ("pplcnetv2", "fixed_size_list<element: float>[1280]"),
        ("hostile-embedder", "list<element: float>"),
    ):
        done = command("embed", "photos", "-m", model, "-o", "out.parquet", "--json")
        assert done.code == 3
        assert done.summary["annotations"] == 0
        table = pq.read_table(work / "out.parquet")
        assert table.num_rows == 0
        assert str(table.schema.field("embedding").type) == kind
        assert command("export", "-o", "exported.parquet").code == 0
        assert (work / "exported.parquet").read_bytes() == (work / "out.parquet").read_bytes()


def test_export_writes_the_same_again(
    command: Command, work: Path, log: Log, embedded: Done
) -> None:
    first = (work / "out.parquet").read_bytes()
    done = command("export", "-o", "a.parquet", "-o", "b.bin", "--format", "parquet", "--json")
    assert done.code == 0, done.err
    assert done.counts == counts(NUMBER)
    assert (done.summary["task"], done.summary["annotations"]) == ("embed", NUMBER)
    assert (work / "a.parquet").read_bytes() == (work / "b.bin").read_bytes() == first
    assert command("detect", "photos", "-o", "boxes.parquet").code == 0
    assert command("export", "-o", "again.parquet", "--task", "embed").code == 0
    assert (work / "again.parquet").read_bytes() == first
    assert command("export", "-o", "boxes2.parquet").code == 0
    assert (work / "boxes2.parquet").read_bytes() == (work / "boxes.parquet").read_bytes()
    assert log.count("embed") == NUMBER


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("embed photos -o out.json", "'out.json': embeddings are written as .parquet"),
        ("embed photos -o out.txt", "'out.txt': embeddings are written as .parquet"),
        ("embed photos -o out.json --dry-run", "embeddings are written as .parquet"),
        ("embed photos -o out.parquet --format coco", "'coco': embeddings are written as .parquet"),
        ("embed photos -o out.parquet -o ./out.parquet", "twice"),
        ("embed photos -o new.parquet -m picodet-s-416", "gives boxes, not vectors"),
        ("embed photos -o new.parquet -m pplcnet", "did you mean 'pplcnetv2'"),
        ("embed photos -o new.parquet --threshold 0.5", "--threshold"),
        ("embed photos -o new.parquet --classes cat", "--classes"),
        ("embed photos", "--output"),
        ("embed -o new.parquet", "Missing argument 'SOURCE"),
        ("detect photos -o new.json -m pplcnetv2", "gives vectors, not boxes"),
        ("segment photos -o new.json --detector pplcnetv2", "gives vectors, not boxes"),
        ("export -o new.json", "'new.json': embeddings are written as .parquet"),
        ("export -o new.parquet --threshold 0.5", "--threshold: this run is of embed"),
        ("export -o new.parquet --classes cat", "--classes: this run is of embed"),
        ("export -o new.parquet --categories a.txt", "--categories: this run is of embed"),
        ("export -o new.parquet --task detect", "no detect run"),
    ],
)
def test_wrong_usage(
    command: Command, work: Path, photos: Callable[..., Path], arguments: str, says: str
) -> None:
    photos(1)
    assert command(*EMBED).code == 0
    before = sorted(work.rglob("*"))
    done = command(*arguments.split())
    assert done.code == 2, done.err
    assert done.line.startswith("pixano-annotate: ")
    assert says in done.line
    assert sorted(work.rglob("*")) == before


def test_models_tells_of_it(command: Command) -> None:
    listed = command("models", "list")
    (line,) = [line for line in listed.out.splitlines() if line.startswith("pplcnetv2 ")]
    assert "image_embedding" in line
    assert "Apache-2.0" in line
    shown = json.loads(command("models", "show", "pplcnetv2", "--json").out)
    assert (shown["task"], shown["dimension"]) == ("image_embedding", 1280)
    assert "classes" not in shown
    assert "dimension:   1280" in command("models", "show", "pplcnetv2").out


def test_from_python(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(work)
    summary = pixano_cli.embed([SAMPLES], ["out.parquet"], store=work / "store", concurrency=2)
    assert (summary.task, summary.total, summary.annotations) == ("embed", 4, 4)
    pixano_cli.export(["again.parquet"], store=work / "store")
    assert (work / "again.parquet").read_bytes() == (work / "out.parquet").read_bytes()
    vectors = {row["file_name"]: np.array(row["embedding"]) for row in rows(work / "out.parquet")}
    assert np.linalg.norm(vectors["chelsea.png"] - vectors["coffee.png"]) > 1
    wrong: Any = {"threshold": 0.5}
    with pytest.raises(UsageError, match="threshold: vectors have none"):
        pixano_cli.embed([SAMPLES], ["out.parquet"], **wrong)


def test_killed_at_any_moment_a_run_ends_as_if_it_had_not_been(
    commands: Commands, log: Log, photos: Callable[..., Path]
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    choose = random.Random(seed)
    embed = ("embed", photos(60), *COUNTED, "--concurrency", 2, "-q")
    assert commands.run(*embed, "--store", "reference", "-o", "reference.parquet").code == 0
    calls = log.count("embed")
    log.clear()

    command = (*embed, "--store", "store", "-o", "out.parquet")
    killer = Killer(commands, log, "counting-embedder", "embed", command)
    killer.kill("at the start", killer.after(choose.uniform(0.0, 0.4)))
    for _ in range(3):
        number = choose.randint(1, calls // 4)
        killer.kill(f"after {number} more calls", killer.at_call(len(log) + number))
    killer.kill("while it writes", killer.while_writing(1))
    assert len(killer.killed) >= 3
    print(f"killed {killer.killed}\ninferred in vain {killer.lost}")

    assert commands.run(*command).code == 0
    out, reference = (commands.folder / f"{name}.parquet" for name in ("out", "reference"))
    assert out.read_bytes() == reference.read_bytes()
    assert hidden(commands.folder) == []
    check_store(killer.store)
    assert query(killer.store, "SELECT count(*) FROM embeddings") == [(calls,)]
    assert len(log.times("embed")) == calls
    assert log.count("embed") - calls == sum(killer.lost)


# On the base classes of the real pixano-inference package.
THEIRS = """
import numpy as np
from pixano_inference.models import EmbeddingModel, EmbeddingOutput, register_model
from pixano_inference.schemas.nd_array import NDArrayFloat
from pixano_inference.utils.media import convert_string_to_image


@register_model("mean-colour")
class MeanColour(EmbeddingModel):
    def load_model(self):
        pass

    def predict(self, input):
        colour = np.asarray(convert_string_to_image(input.image)).mean(axis=(0, 1))[None] / 10
        return EmbeddingOutput(embeddings=NDArrayFloat.from_numpy(colour), dim=3)
"""


def test_a_plugin_for_pixano_inference_embeds(commands: Commands, tmp_path: Path) -> None:
    folder = tmp_path / "installed"
    facts = folder / "theirs-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[pixano_inference.models]\ntheirs = theirs_module\n")
    (folder / "theirs_module.py").write_text(THEIRS)
    commands.environment["PYTHONPATH"] += f":{folder}"
    Image.new("RGB", (30, 20), (10, 200, 70)).save(commands.folder / "green.png")
    done = commands.run("embed", "green.png", "-m", "mean-colour", "-o", "out.parquet", "--json")
    assert done.code == 0, done.err
    (row,) = rows(commands.folder / "out.parquet")
    assert row["embedding"] == [1.0, 20.0, 7.0]
    store = commands.folder / ".pixano-annotate"
    assert query(store, "SELECT model_id, embedding_size FROM models") == [("mean-colour", 3)]
