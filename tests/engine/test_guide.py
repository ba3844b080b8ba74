"""docs/guide.md does what it says: its commands run in their order, on the demo capture, with small numbers."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.capture.readers import load_video
from engine.cli import _parser, main
from engine.io.spz import read_spz
from engine.messages import Finished
from engine.steps import preflight

REPOSITORY = Path(__file__).resolve().parents[2]
GUIDE = REPOSITORY / "docs" / "guide.md"
CLIP = REPOSITORY / "assets" / "clips" / "walker"
BLOCK = re.compile(r"^```(\w+)(?: ([^\n]+))?\n(.*?)^```$", re.M | re.S)
OTHER_PROGRAMS = {"ffmpeg", "colmap", "mkdir", "(cd"}
# what makes each command quick; later flags win
QUICK = {
    "import": "--height 104 --every 6",
    "preflight": "--moments 1",
    "fit_scene": "--iterations 40 --budget 500 --initial-count 500 --preview-every 0",
    "evaluate": "--every 3",
    "grade": "",
    "render": "--frames 3 --width 64 --height 80",
    "edit": "--views 0,2 --resolution 64 --steps 1 --fit-iterations 4",
    "fit-edits": "--iterations 4",
    "scene-views": "",
    "views-to-sheet": "--size-for multiple,of,64",
    "sheet-to-views": "",
    "lift-mask": "",
    "train-latents": "--iterations 4 --resolution 64 --moments 0",
    "delta-edit": "--iterations 2 --moments 0",
    "latents-to-scene": "--iterations 3 --views 0,2 --moments 0",
    "evaluate-edit": "--every 3",
    "export": "",
    "page": "",
    "web-player": "",
    "clip": "",
}


def blocks(language: str, mark: str | None) -> list[str]:
    """The guide's fenced blocks of a language with a mark after it."""
    found = BLOCK.findall(GUIDE.read_text(encoding="utf-8"))
    return [body for name, after, body in found if name == language and (after or None) == mark]


def commands(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def test_the_page_on_heads_is_short_and_its_commands_exist():
    page = (REPOSITORY / "docs" / "heads.md").read_text(encoding="utf-8")
    assert len(page.split()) <= 900
    lines = [line for body in re.findall(r"^```sh\n(.*?)^```$", page, re.M | re.S) for line in commands(body)]
    assert len(lines) >= 8
    for line in lines:
        assert line.startswith("python -m engine ")
        _parser().parse_args(shlex.split(line)[3:])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guide")
    shutil.copytree(CLIP, folder / "my_phones")
    return folder


def paint_masks(folder: Path) -> None:
    """What the guide asks a person to do: one mask for each picture of mask_views."""
    (folder / "masks").mkdir(exist_ok=True)
    for file in (folder / "mask_views" / "edited").iterdir():
        picture = np.zeros(np.asarray(Image.open(file)).shape[:2], np.uint8)
        picture[: len(picture) // 2] = 255
        Image.fromarray(picture).save(folder / "masks" / f"{file.stem}.png")


@pytest.mark.slow
def test_every_command_of_the_guide_runs(place: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(place)
    verbs = set()
    for command in [c for text in blocks("sh", "run") for c in commands(text)]:
        program, *words = shlex.split(command)
        assert [program, *words[:2]] == ["python", "-m", "engine"], f"not a command of ours: {command}"
        verb = words[2]
        verbs.add(verb)
        if verb == "lift-mask":
            paint_masks(place)
        quick = [word.replace(",", " ") for word in QUICK[verb].split()]
        code = main([*words[2:], *quick, "--json"])
        said = capsys.readouterr()
        assert code == 0, f"{command}\n{said.err}"
        for word in words:
            if words[words.index(word) - 1] in ("--out", "-o"):
                assert (place / word).exists(), f"{command}: nothing was written"
    assert {"import", "preflight", "fit_scene", "edit", "lift-mask", "delta-edit", "export", "page"} <= verbs
    assert len(list((place / "gold_ply").glob("frame_*.ply"))) == 5
    assert len(read_spz(place / "gold.spz")) > 0
    assert b"<html" in (place / "before_after.html").read_bytes()[:2000]


def test_what_is_not_run_belongs_to_another_program() -> None:
    for text in blocks("sh", None):
        joined = text.replace("\\\n", " ")
        assert {line.split()[0] for line in commands(joined)} <= OTHER_PROGRAMS


@pytest.mark.parametrize(
    "page",
    [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")), *sorted((REPOSITORY / "web" / "docs").glob("*.md"))],
    ids=lambda path: path.name,
)  # fmt: skip
def test_every_command_in_the_documents_is_one_of_the_command_line(page: Path) -> None:
    for line in page.read_text(encoding="utf-8").splitlines():
        found = re.match(r"\s*(?:OMP_NUM_THREADS=1 )?python -m engine (.+?)(?:\s+#.*)?$", line)
        if found:
            try:
                _parser().parse_args(shlex.split(found[1]))
            except SystemExit:
                pytest.fail(f"{page.name}: {line}")


def test_the_cameras_json_of_the_guide_can_be_read(tmp_path: Path) -> None:
    (text,) = blocks("json", "cameras.json")
    for folder in ("videos", "masks"):
        shutil.copytree(CLIP / folder, tmp_path / folder)
    (tmp_path / "cameras.json").write_text(text, encoding="utf-8")
    video = load_video(tmp_path)
    assert video.layout == "folder" and video.views == len(json.loads(text)["cameras"])
    assert video.has_masks and not video.warnings
    *_, last = preflight.run(video)
    assert isinstance(last, Finished) and last.value.can_train, last.value.text()


def test_the_keys_of_the_guide_are_those_of_the_reader() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    table = text[text.index("| key | |") :].partition("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", "\n".join(row.split("|")[1] for row in table.splitlines())))
    source = (REPOSITORY / "engine" / "capture" / "readers" / "folder.py").read_text(encoding="utf-8")
    assert not {key for key in named if f'"{key}"' not in source}
    described = source.split('"""')[1]
    assert set(re.findall(r'"(\w+)":', described)) - named - {"model", "params"} <= {"camera_axes"}


def test_a_colmap_model_beside_the_videos_is_a_capture(tmp_path: Path) -> None:
    """The folder that step 4 draws: sparse/0 whose pictures are named after the videos."""
    truth = load_video(CLIP)
    shutil.copytree(CLIP / "videos", tmp_path / "videos")
    model = tmp_path / "sparse" / "0"
    model.mkdir(parents=True)
    cameras, images = [], []
    for i, name in enumerate(truth.cameras.names):
        w, h = truth.cameras.sizes[i]
        K, pose = truth.cameras.K[i].double(), truth.cameras.world_to_camera[i].double()
        cameras.append(f"{i + 1} PINHOLE {w} {h} {K[0, 0]} {K[1, 1]} {K[0, 2]} {K[1, 2]}")
        quaternion = _quaternion(pose[:3, :3].numpy())
        words = [i + 1, *quaternion, *pose[:3, 3].tolist(), i + 1, f"{name}.png"]
        images.append(" ".join(map(str, words)) + "\n")
    (model / "cameras.txt").write_text("\n".join(cameras) + "\n")
    (model / "images.txt").write_text("\n".join(images) + "\n")
    (model / "points3D.txt").write_text("")
    video = load_video(tmp_path)
    assert video.layout == "colmap" and video.moments == truth.moments
    order = [truth.cameras.names.index(name) for name in video.cameras.names]
    assert sorted(order) == list(range(truth.views))
    poses = truth.cameras.world_to_camera[order]
    assert np.allclose(video.cameras.world_to_camera, poses, atol=1e-5)


def _quaternion(R: np.ndarray) -> list[float]:
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(R).as_quat()
    return [w, x, y, z]


def test_the_sentences_that_the_guide_names_are_known_to_the_small_model() -> None:
    text = (REPOSITORY / "assets" / "models" / "tiny-instruct-pix2pix" / "gs4d.json").read_text(
        encoding="utf-8"
    )
    named = set(re.findall(r"[`\"]((?:make|turn|leave) it [a-z ]+)[`\"]", GUIDE.read_text(encoding="utf-8")))
    assert len(named) > 8
    assert not [sentence for sentence in named if f'"{sentence}"' not in text]
