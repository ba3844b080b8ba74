"""Nodes generated from the declarations of steps (engine/steps/step.py)."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import Field
from dataclasses import fields as fields_of
from typing import Any, ClassVar

from ..engine.errors import InputError
from ..engine.fields import id_of
from ..engine.figures.training_curves import TrainingCurves
from ..engine.render import remark
from ..engine.steps.step import Figure, Input, Kind, Step, version
from ..engine.train.loop import shaping
from ..engine.train.state import input_identity
from . import fields, folders, host, kinds, pictures, unfinished
from .checks import about, checked
from .compat import combo, io, schema

PREFIX = "GS4D_"
RESUMES = " Cancel keeps the progress: queue again to resume."


class StepNode(io.ComfyNode):
    """A step as a node: sockets, widgets and work come from `step`."""

    step: ClassVar[Step]

    @classmethod
    def define_schema(cls) -> Any:
        step = cls.step
        return schema(
            node_id=PREFIX + step.node,
            display_name=step.label,
            category=step.category,
            description=step.description + (RESUMES if step.resumes else ""),
            search_aliases=list(step.search),
            inputs=inputs(step),
            outputs=[kinds.output(declared) for declared in step.outputs],
            is_output_node=step.is_output,
            is_input_list=any(declared.gathers for declared in step.inputs),
        )

    @classmethod
    def execute(cls, **values: Any) -> Any:
        step, node = cls.step, cls.hidden.unique_id
        curves = TrainingCurves(counts=step.settings is not None) if step.figure is Figure.CURVES else None
        live = host.LivePreviews(node, holds_back=step.figure is Figure.PREVIEW)
        removed: list[str] = []
        endings: list[str] = []
        with host.node_context(), ExitStack() as stack:
            if any(declared.gathers for declared in step.inputs):
                values = gathered(step, values)
            device = values.pop("device", "cpu")
            config = fields.config_from(step.config, {**(values.get("settings") or {}), **values})
            given = {
                i.name: kinds.entering(i.kind, values.get(i.socket), step.suffix(config)) for i in step.inputs
            }
            given.pop("settings", None)
            where, needed = None, None
            if step.has_device:
                guidance = {i.name: given[i.name].backbone for i in step.inputs if i.kind is Kind.GUIDANCE}
                needed = step.memory(config, {**given, **guidance})
                where = host.device(device, needed.megabytes, config.rasterizer)
            for declared in step.inputs:
                if declared.kind in kinds.MODELS:
                    # rendering needs its room beside the model's
                    room = () if needed is None else (needed.model_megabytes + needed.megabytes,)
                    given[declared.name] = stack.enter_context(given[declared.name].in_use(*room))
            more: dict[str, Any] = {n: fields.config_from(c, values) for n, c in step.more.items()}
            if step.has_device:
                more["device"] = where
            if step.resumes:
                parts = (shaping(config), str(where), *input_identity(*given.values()))
                graph = unfinished.graph_of(cls.hidden)
                more["checkpoint"], removed = unfinished.checkpoint(step.name, step.label, graph, *parts)
            made = step(config=config, **given, **more)
            if isinstance(made, Generator):
                made = host.follow(made, node, live, curves, endings)
        host.free()
        if endings:
            unfinished.remember_stop(step.node, {"device": device, **values})
        leaving = [kinds.leaving(declared, made) for declared in step.outputs]
        notes = [
            *removed,
            *endings,
            *(kinds.note(declared, made) for declared in step.outputs),
            step.note(made),
        ]
        if where is not None:
            notes.append(remark(config.rasterizer, where, is_free=device == "auto"))
        ui = dict(figure(step, made, live, curves) or {})
        for declared in step.outputs:
            if declared.kind is Kind.FILES:
                ui |= folders.as_download(declared.of(made))
        return host.output(*leaving, notes="\n".join(filter(None, notes)), ui=ui)


def gathered(step: Step, values: dict[str, list[Any]]) -> dict[str, Any]:
    """The values of a node that ComfyUI gives lists to: batches of a list as one, of everything else the only value.

    Raises InputError for a list of several values at another input.
    """
    lists = {declared.socket: declared.kind for declared in step.inputs if declared.gathers}
    single: dict[str, Any] = {}
    for name, found in values.items():
        if name in lists:
            single[name] = kinds.one_value(lists[name], found, name)
        elif len(found) > 1:
            raise InputError(
                "NOD-070",
                f"{name} is a list of {len(found)}, but {step.label} runs once, on all of its images; connect a single value.",
            )
        else:
            single[name] = found[0] if found else None
    return single


def inputs(step: Step) -> list[Any]:
    """The node's inputs in an order that later versions only append to."""
    own = [f for f in step.fields() if not (step.settings and f.metadata["advanced"])]
    device = (
        [combo("device", host.DEVICES, "auto", tooltip=host.DEVICE_TEXT, advanced=True)]
        if step.has_device
        else []
    )
    return [
        *_first_sockets(step, lambda i: not i.optional and i.kind is not Kind.PATH),
        *(fields.widget(f) for f in own if not f.metadata["since"]),
        *_first_sockets(step, lambda i: i.kind is Kind.PATH),
        *device,
        *_first_sockets(step, lambda i: i.optional),
        *(fields.widget(f, optional=True) for f in _more(step) if not f.metadata["since"]),
        *_later_inputs(step, own),
    ]


def _more(step: Step) -> list[Field[Any]]:
    """The fields of the step's further configs."""
    return [f for config in step.more.values() for f in fields_of(config)]


def _first_sockets(step: Step, is_chosen: Callable[[Input], bool]) -> list[Any]:
    """Sockets of the step's first version."""
    return [kinds.socket(i) for i in step.inputs if not i.since and is_chosen(i)]


def _later_inputs(step: Step, own: list[Field[Any]]) -> list[Any]:
    """Sockets and widgets that later versions added, in the order of these versions."""
    later = [(version(i.since), kinds.socket(i)) for i in step.inputs if i.since]
    later += [
        (version(f.metadata["since"]), fields.widget(f)) for f in (*own, *_more(step)) if f.metadata["since"]
    ]
    return [each for _, each in sorted(later, key=lambda pair: pair[0])]


def figure(
    step: Step, made: Any, live: host.LivePreviews, curves: TrainingCurves | None
) -> dict[str, Any] | None:
    """What the node shows in addition to its outputs."""
    if curves is not None:
        return pictures.curves(curves, live)
    if step.figure is Figure.PREVIEW:
        return pictures.preview(live)
    if step.figure is Figure.BEFORE_AFTER:
        return pictures.before_and_after(made, live)
    return pictures.compared(made.comparison, live) if step.figure is Figure.COMPARISON else None


def node_of(step: Step) -> type[StepNode]:
    """The node class of a step."""
    members: dict[str, Any] = {"step": step, "__module__": __name__, "__doc__": step.description}
    watches = any(i.kind is Kind.SOURCE or i.kind in kinds.LISTS for i in step.inputs)
    if step.always_runs:
        # unequal to itself, so never unchanged
        members["fingerprint_inputs"] = classmethod(lambda cls, **values: float("nan"))
    elif step.resumes and not watches:
        members["fingerprint_inputs"] = classmethod(lambda cls, **values: unfinished.stops(step.node, values))
    node = type(step.node, (StepNode,), members)
    texts = {i.socket: kinds.CHECKS[i.kind] for i in step.inputs if i.kind in kinds.CHECKS}
    texts |= {id_of(f): f.metadata["check"] for f in step.fields() if f.metadata.get("check")}

    def check(*values: str) -> Any:
        """What the first text names, which is the source of a step that has one."""
        found: list[Any] = []
        for (name, each), value in zip(texts.items(), values, strict=True):
            with about(name):
                found.append(each(value))
        return found[0]

    return checked(check, *texts, watches=watches)(node) if texts else node


def settings_node_of(step: Step) -> type[Any]:
    """The node with a step's advanced fields."""
    declared = step.settings
    assert declared is not None
    advanced = [f for f in step.fields() if f.metadata["advanced"]]
    visible = declared.visible.split()

    class SettingsNode(io.ComfyNode):
        @classmethod
        def define_schema(cls) -> Any:
            return schema(
                node_id=PREFIX + declared.node,
                display_name=declared.label,
                category=step.category,
                description=declared.description,
                inputs=[fields.widget(f, shown=id_of(f) in visible) for f in advanced],
                outputs=[
                    kinds.SOCKETS[Kind.SETTINGS].Output(
                        "settings", display_name="settings", tooltip=f"These settings, for {step.label}."
                    )
                ],
            )

        @classmethod
        def execute(cls, **values: Any) -> Any:
            with host.node_context():
                # reports values out of range here rather than in the step
                fields.config_from(step.config, values)
            return host.output(values)

    SettingsNode.__name__ = declared.node
    return SettingsNode
