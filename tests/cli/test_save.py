"""The bytes in a result: to new files, in the folder that was named, whatever a server says."""

import base64
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xzpipe.cli.save import attached, prepare, save
from xzpipe.errors import UsageError


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def image(data: object = None, mime: object = "image/png", kind: str = "image") -> dict[str, Any]:
    return {"type": kind, "data": b64(b"PNG") if data is None else data, "mimeType": mime}


def result(*contents: object) -> dict[str, Any]:
    return {"content": list(contents)}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_pictures_sounds_and_blobs_are_saved_by_their_place(tmp_path):
    blob = {"uri": "x://y", "mimeType": "application/pdf", "blob": b64(b"PDF")}
    found = result(
        {"type": "text", "text": "a cat"},
        image(),
        image(b64(b"RIFF"), "audio/wav", "audio"),
        {"type": "resource", "resource": {"uri": "x://z", "text": "words"}},
        {"type": "resource", "resource": blob},
    )
    saved = save(found, "cat", tmp_path)
    assert saved.problems == ()
    assert {place: path.name for place, path in saved.paths.items()} == {
        1: "cat-1.png",
        2: "cat-2.wav",
        4: "cat-3.pdf",
    }
    assert files(tmp_path) == {"cat-1.png": b"PNG", "cat-2.wav": b"RIFF", "cat-3.pdf": b"PDF"}


@pytest.mark.parametrize(
    ("mime", "ending"),
    [
        ("image/png", ".png"),
        ("image/jpeg", ".jpg"),
        ("IMAGE/WebP", ".webp"),
        ("image/svg+xml", ".svg"),
        ("audio/mpeg", ".mp3"),
        ("audio/wav", ".wav"),
        ("audio/x-wav", ".wav"),
        ("audio/ogg; codecs=opus", ".ogg"),
        ("image/../../x", ".bin"),
        ("image/png/../x", ".bin"),
        ("", ".bin"),
        (None, ".bin"),
        (5, ".bin"),
        (["image/png"], ".bin"),
    ],
)
def test_the_ending_is_by_the_type(mime, ending, tmp_path):
    [path] = save(result(image(mime=mime)), "t", tmp_path).paths.values()
    assert path.name == f"t-1{ending}"


def test_no_file_is_overwritten(tmp_path):
    (tmp_path / "t-1.png").write_bytes(b"mine")
    (tmp_path / "t-3.png").symlink_to(tmp_path / "elsewhere")
    saved = save(result(image(), image()), "t", tmp_path)
    assert [path.name for path in saved.paths.values()] == ["t-2.png", "t-4.png"]
    assert (tmp_path / "t-1.png").read_bytes() == b"mine"
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("tool", "stem"),
    [
        ("../../etc/passwd", "_.._etc_passwd"),
        ("/abs", "_abs"),
        ("..", "tool"),
        (".hidden", "hidden"),
        ("-rf", "rf"),
        ("", "tool"),
        ("a\\b:c\x00\n\ud83d", "a_b_c___"),
        ("天气 now", "天气_now"),
        ("天" * 300, "天" * 64),
    ],
)
def test_a_file_is_named_after_its_tool_whatever_its_name_is(tool, stem, tmp_path):
    [path] = save(result(image()), tool, tmp_path).paths.values()
    assert path.name == f"{stem}-1.png"


@given(st.text(), st.text())
def test_no_file_is_outside_the_folder(tmp_path_factory, tool, mime):
    folder = tmp_path_factory.mktemp("save") / "in"
    folder.mkdir()
    saved = save(result(image(mime=mime)), tool, folder)
    assert saved.problems == ()
    [path] = saved.paths.values()
    assert list(folder.iterdir()) == [path] == list(folder.parent.rglob("*"))[1:]


@pytest.mark.parametrize(
    "data",
    ["?", "AAA", "AA==\n", "A A A A", "QQ==QQ==", "=", "天", "\ud83d", 5, None, ["AAAA"], {}],
)
def test_what_is_not_base64_is_named_and_the_rest_is_saved(data, tmp_path):
    bad = {"type": "image", "data": data, "mimeType": "image/gif"}
    saved = save(result({"type": "text"}, bad, image()), "t", tmp_path)
    [problem] = saved.problems
    assert problem.startswith("content 2 (image/gif) is not base64: ")
    assert files(tmp_path) == {"t-1.png": b"PNG"}
    assert list(saved.paths) == [2]


def test_without_a_type_it_is_named_by_its_kind(tmp_path):
    saved = save(result(image("?", None, "audio")), "t", tmp_path)
    assert saved.problems[0].startswith("content 1 (audio) is not base64")


def test_what_cannot_be_written_is_named(tmp_path):
    saved = save(result(image(), image()), "t", tmp_path / "gone")
    assert saved.paths == {}
    assert saved.problems == tuple(
        f"content {n} (image/png) could not be written to {tmp_path / 'gone'}: "
        "No such file or directory"
        for n in (1, 2)
    )


@pytest.mark.parametrize(
    "content",
    [
        None,
        5,
        "image",
        [],
        {},
        {"type": "text", "text": "x", "data": "AAAA"},
        {"type": "image"},
        {"type": "image", "image": "{}"},
        {"type": "resource"},
        {"type": "resource", "resource": None},
        {"type": "resource", "resource": {"text": "x"}},
        {"type": "resource_link", "uri": "x"},
        {"type": ["image"], "data": "AAAA"},
    ],
)
def test_what_holds_no_bytes_is_left_alone(content, tmp_path):
    assert attached(content) is None
    saved = save(result(content), "t", tmp_path)
    assert (saved.paths, saved.problems, files(tmp_path)) == ({}, (), {})


@pytest.mark.parametrize("found", [{}, {"content": None}, {"content": {"type": "image"}}])
def test_a_result_without_content_has_nothing_to_save(found, tmp_path):
    assert save(found, "t", tmp_path).paths == {}


def test_the_folder_is_made_if_it_is_missing(tmp_path):
    prepare(tmp_path / "a" / "b")
    prepare(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_folder_that_cannot_be_made_is_a_usage_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError) as failed:
        prepare(tmp_path / "file" / "x")
    assert failed.value.message == f"--save {tmp_path / 'file' / 'x'}: Not a directory"


def test_of_what_does_not_fit_no_half_is_left(tmp_path):
    """In a process that may write files of 100 bytes and no more."""
    script = (
        "import base64, resource, signal, sys; from pathlib import Path\n"
        "from xzpipe.cli.save import save\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "data = base64.b64encode(bytes(1000)).decode()\n"
        "content = {'type': 'image', 'data': data, 'mimeType': 'image/png'}\n"
        "saved = save({'content': [content]}, 't', Path(sys.argv[1]))\n"
        "print(saved.problems[0])\n"
    )
    argv = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.endswith(f"could not be written to {tmp_path}: File too large\n")
    assert files(tmp_path) == {}
