"""What workflows, translations and help pages depend on: changed knowingly with write_contracts.py, or not at all."""

import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "web"))
import write_contracts as contracts
from node_room import spread

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="session")
def info() -> dict[str, Any]:
    try:
        return contracts.ask("schemas")
    except RuntimeError as error:
        if "no ComfyUI here" in str(error):
            pytest.skip(str(error))
        raise


def test_schemas_are_those_that_were_agreed(info: dict[str, Any]) -> None:
    agreed = json.loads(contracts.SCHEMAS.read_text(encoding="utf-8"))
    assert contracts.contract(info) == agreed, "meant? then run tests/nodes/write_contracts.py"


def test_labels_on_the_canvas_are_the_schemas(info: dict[str, Any]) -> None:
    assert json.loads(contracts.LOCALE.read_text(encoding="utf-8")) == contracts.locale(info)


def test_every_node_has_a_help_page_with_its_inputs(info: dict[str, Any]) -> None:
    for node, schema in info.items():
        text = (contracts.DOCS / f"{node}.md").read_text(encoding="utf-8")
        assert text == contracts.with_listing(text, node, schema), f"{node}.md is out of date"
        assert text.startswith(f"# {schema['display_name']}\n")
        assert len(text.replace(contracts.listing(node, schema), "")) > 200, f"{node}.md says too little"


def test_every_input_has_a_tooltip(info: dict[str, Any]) -> None:
    bare = [
        f"{node}.{name}"
        for node, schema in info.items()
        for section in ("required", "optional")
        for name, (_, *rest) in schema["input"].get(section, {}).items()
        if not rest or len(rest[0].get("tooltip", "")) < 10
    ]
    assert not bare


def test_every_output_has_a_tooltip(info: dict[str, Any]) -> None:
    bare = [
        f"{node}.{name}"
        for node, schema in info.items()
        for name, tip in zip(schema["output_name"], schema["output_tooltips"], strict=True)
        if len(tip or "") < 10 or not tip.endswith(".")
    ]
    assert not bare


def test_the_canvas_leaves_defaults_as_they_are(info: dict[str, Any]) -> None:
    """It rounds whole numbers to the lowest value plus whole steps."""
    moved = [
        f"{node}.{name}"
        for node, schema in info.items()
        for section in ("required", "optional")
        for name, (kind, *rest) in schema["input"].get(section, {}).items()
        if kind == "INT" and rest and (rest[0]["default"] - rest[0]["min"]) % rest[0].get("step", 1)
    ]
    assert not moved


def test_every_number_of_a_step_is_on_a_node(info: dict[str, Any]) -> None:
    from engine.capture.readers import LoadOptions
    from engine.fields import id_of
    from engine.steps import all_steps, bake_clip

    where: dict[type[Any], list[str]] = {
        LoadOptions: ["LoadMultiViewVideo"],
        bake_clip.Config: ["Preview4DScene"],
    }
    for step in all_steps():
        where[step.config] = [step.node, *([step.settings.node] if step.settings else [])]
    for config, nodes in where.items():
        # inputs that were added later are optional: graphs that were saved before have none
        shown = {
            name for node in nodes for inputs in info[f"GS4D_{node}"]["input"].values() for name in inputs
        }
        missing = {id_of(f) for f in fields(config)} - shown
        assert not missing, f"{config.__module__}: {missing} is on none of {nodes}"


@pytest.mark.parametrize(
    "node",
    [
        "GS4D_Train4DScene",
        "GS4D_EditViews",
        "GS4D_FitEdits",
        "GS4D_RefineScore",
        "GS4D_TrainLatentField",
        "GS4D_DeltaEdit",
        "GS4D_LatentsToScene",
    ],
)
def test_the_seed_stays_as_it_was_set(info: dict[str, Any], node: str) -> None:
    seed = info[node]["input"]["required"]["seed"][1]
    assert seed["control_after_generate"] is False, (
        "a seed that changes after each run could never be resumed"
    )


def test_the_small_model_is_offered_first(info: dict[str, Any]) -> None:
    assert info["GS4D_LoadGuidance"]["input"]["required"]["model"][1]["options"][0] == "embedded (small)"


def test_the_pack_loads_where_every_optional_package_is_missing(tmp_path: Path) -> None:
    question = tmp_path / "question.py"
    question.write_text(
        "import asyncio, sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('numba', 'gsplat', 'fourdgs', 'pxr', 'scipy', 'llvmlite', 'diffusers',\n"
        "                                   'transformers', 'accelerate', 'lpips'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "def answer(pack):\n"
        "    extension = asyncio.run(pack.comfy_entrypoint())\n"
        "    return [c.GET_SCHEMA().node_id for c in asyncio.run(extension.get_node_list())]\n"
    )
    try:
        nodes = contracts.ask(str(question))
    except RuntimeError as error:
        if "no ComfyUI here" in str(error):
            pytest.skip(str(error))
        raise
    assert len(nodes) == len(json.loads(contracts.SCHEMAS.read_text(encoding="utf-8")))


def test_nothing_of_comfy_is_imported_by_the_root_module() -> None:
    text = (contracts.REPOSITORY / "__init__.py").read_text()
    assert not [line for line in text.splitlines() if line.startswith(("import", "from"))]


WORKFLOWS = sorted((contracts.REPOSITORY / "workflows").glob("*.json"))


# lists of models, by the workflow that names published ones, which do not ship
DOWNLOADS = {
    *(("gvf_diffusion_trellis", "GS4D_LoadVariation", name) for name in ("model", "image_encoder")),
    *(
        ("gvf_diffusion_trellis", "GS4D_LoadTrellis", name)
        for name in ("trellis", "image_encoder", "decoder")
    ),
}


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda path: path.stem)
def test_nodes_have_room_to_grow_by_what_they_show(file: Path) -> None:
    workflow = json.loads(file.read_text(encoding="utf-8"))
    placed = json.dumps(workflow)
    assert json.dumps(spread(workflow)) == placed, "tests/web/make_workflow.py places them"


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda path: path.stem)
def test_published_models_can_be_downloaded(file: Path) -> None:
    """ComfyUI's list of missing models offers those that a node's properties name with an address and a folder."""
    for node in json.loads(file.read_text(encoding="utf-8"))["nodes"]:
        if node["type"].startswith("GS4D_"):
            continue  # these take folders of files, which that list does not know
        values = [v for v in node.get("widgets_values") or [] if str(v).endswith(".safetensors")]
        models = {model["name"]: model for model in node.get("properties", {}).get("models", [])}
        assert set(models) == set(values), node["type"]
        for name, model in models.items():
            assert model["url"].startswith("https://huggingface.co/") and model["url"].endswith(f"/{name}")
            assert model["directory"] in (
                "checkpoints",
                "diffusion_models",
                "text_encoders",
                "vae",
                "clip_vision",
            )


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda path: path.stem)
def test_the_shipped_workflows_fit_the_schemas(info: dict[str, Any], file: Path) -> None:
    assert file.with_suffix(".jpg").read_bytes()[:2] == b"\xff\xd8", "a workflow needs a thumbnail"
    workflow = json.loads(file.read_text(encoding="utf-8"))
    for node in workflow["nodes"]:
        if not node["type"].startswith("GS4D_"):
            continue
        schema = info[node["type"]]["input"]
        widgets_are = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
        widgets = [
            (name, kind, rest[0] if rest else {})
            for section in ("required", "optional")
            for name, (kind, *rest) in schema.get(section, {}).items()
            if kind in widgets_are
        ]
        values = node.get("widgets_values") or []
        assert len(values) == len(widgets), f"{node['type']}: the workflow is older than the schema"
        for value, (name, kind, options) in zip(values, widgets, strict=True):
            if kind == "COMBO" and options["options"] and (file.stem, node["type"], name) not in DOWNLOADS:
                assert value in options["options"], f"{node['type']}.{name}"
            if kind in ("INT", "FLOAT"):
                assert options["min"] <= value <= options["max"], f"{node['type']}.{name}"
