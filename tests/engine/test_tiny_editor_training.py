"""The trainings of the bundled editor and its autoencoder: resumed to the bit, and stopped by a file."""

import json

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers", reason="diffusers is not installed")

from training.tiny_editor import autoencoder, dataset, editor, edits, latents, photographs


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with an untrained autoencoder, latents of nothing, and one cut-out."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    vae = autoencoder.build()
    autoencoder.linear_start(vae)
    autoencoder.save(folder / "whitened.pt", {"ema": vae.state_dict()})
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(6, 4, 16, 12, generator=generator)
    edited = source[:, None] + 0.5 * torch.randn(6, 2, 4, 16, 12, generator=generator)
    names = [latents.NAMES.index(name) for name in edits.TEN[:2]]
    shard = {
        "source": source.half(),
        "edited": edited.half(),
        "edit": torch.tensor([names] * 6),
        "kind": torch.zeros(6).long(),
    }
    autoencoder.save(folder / "latents" / "128x96_00_000.pt", shard)
    (folder / "bank").mkdir()
    disc = np.hypot(*np.mgrid[-1:1:256j, -1:1:256j]) < 0.7
    cutout = np.stack(
        [np.full((256, 256), v, np.uint8) for v in (200, 90, 40)] + [disc.astype(np.uint8) * 255], -1
    )
    np.save(folder / "bank" / "procedural_00_000.npy", cutout[None])
    return folder


@pytest.fixture
def alone(monkeypatch):
    """Without what other packages bring along: photographs, and the subjects of figures."""
    picture = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    monkeypatch.setattr(photographs, "photographs", lambda *_, **__: [picture])
    monkeypatch.setattr(editor, "figures", lambda *_: {})
    # least squares at 1000 timesteps, of what is noise here
    monkeypatch.setattr(editor, "best_linear", lambda *_: (torch.zeros(1000), torch.full((1000,), -0.7)))
    monkeypatch.setattr(editor, "linear_start", lambda *_: 0.0)
    monkeypatch.setattr(autoencoder, "figures", lambda *_: {})


class Stop(Exception):
    pass


def trained(monkeypatch, module, path, arguments, interrupt=None):
    """The checkpoint after a call, which an exception interrupts at the `interrupt`-th drawing of samples."""
    owner, name = (editor.Pairs, "batch") if module is editor else (autoencoder, "batch")
    draw, calls = getattr(owner, name), []

    def counted(*values):
        calls.append(1)
        if len(calls) == interrupt:
            raise Stop
        return draw(*values)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, counted)
        patch.setattr("sys.argv", ["train", *arguments, "--report-every", "1", "--save-every", "1"])
        if interrupt is None:
            module.main()
        else:
            with pytest.raises(Stop):
                module.main()
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("module", [editor, autoencoder], ids=["editor", "autoencoder"])
def test_a_resumed_training_of_steps_equals_an_uninterrupted_one(
    run, alone, monkeypatch, module, tmp_path, capsys
):
    arguments = {
        editor: ["--out", str(run), "--steps", "3", "--batch", "1", "--every", "1e9"],
        autoencoder: [
            "train",
            "--bank",
            str(run / "bank"),
            "--out",
            str(tmp_path),
            "--steps",
            "3",
            "--every",
            "1e9",
        ],
    }[module]
    path = run / "editor.pt" if module is editor else tmp_path / "autoencoder.pt"
    whole = trained(monkeypatch, module, path, arguments)
    path.unlink()
    # the editor draws once before its first step
    part = trained(monkeypatch, module, path, arguments, 3 if module is autoencoder else 4)
    assert (part["step"], whole["step"]) == (2, 3)
    again = trained(monkeypatch, module, path, arguments)
    for name, value in whole["network"].items():
        assert torch.equal(again["network"][name], value), name
    assert any(not torch.equal(value, part["network"][name]) for name, value in whole["network"].items())
    assert autoencoder.averaged(path).keys() == whole["network"].keys()
    steps = [
        json.loads(line)["step"]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith('{"step"')
    ]
    assert steps == [1, 2, 3, 1, 2, 3]


def test_minutes_end_and_a_file_stops(run, alone, monkeypatch, tmp_path):
    arguments = ["train", "--bank", str(run / "bank"), "--out", str(tmp_path)]
    (tmp_path / "stop_autoencoder").touch()
    path = tmp_path / "autoencoder.pt"
    assert trained(monkeypatch, autoencoder, path, [*arguments, "--minutes", "600"])["step"] == 1
    (tmp_path / "stop_autoencoder").unlink()
    # time that is used up already
    last = trained(monkeypatch, autoencoder, path, [*arguments, "--minutes", "1e-9"])
    assert last["step"] == 1 and last["clock"] > 0
    assert dataset.Bank(run / "bank", autoencoder.SHARES).shards.keys() == {"procedural"}
