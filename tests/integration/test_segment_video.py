from .clips import write_clip


def test_x(command, work, log):
    write_clip(work / "a.mp4")
    d = command(
        "segment-video",
        "a.mp4",
        "-o",
        "o.json",
        "-m",
        "square-segmenter",
        "--detector",
        "square-detector",
        "--json",
        "--threshold",
        "0.5",
    )
    print(d.out, d.err, log.count("detect"), log.count("segment"))
    import json

    o = json.load(open(work / "o.json"))
    print(len(o["images"]), o["annotations"][:2], {a["track_id"] for a in o["annotations"]})
    assert 0
