"""Models and adapters: what there is, what is loaded, and with which adapter a model answers."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter, Request

from service import problems
from service.access import access
from service.deps import PartsDep
from service.models import Models
from service.schemas import (
    AdapterReply,
    LoadRequest,
    ModelReply,
    ModelsReply,
    OwnModelsReply,
    UpstreamReply,
)
from service.schemas.workshop import ExportReply, ExportRequest, MergeRequest

router = APIRouter(tags=["models"])


@router.get("/models", summary="Generators and adapters", responses={**problems.declared(500)})
def list_models(parts: PartsDep, request: Request) -> ModelsReply:
    """Installed models of our own engine, adapters, and what Ollama offers if it answers."""
    own = _own(parts.models, whole=access(request).collections is None)
    found, upstreams = list(own.models), []
    for name, address, names, message in parts.models.list_upstreams():
        upstreams.append(
            UpstreamReply(name=name, address=address, reachable=names is not None, message=message)
        )
        found += [
            ModelReply(
                name=f"{name}/{n}",
                kind=name,
                loaded=True,
                default=f"{name}/{n}" == own.default,
                capabilities=["stream"],
            )
            for n in names or ()
        ]
    return ModelsReply(models=found, adapters=own.adapters, default=own.default, upstreams=upstreams)


@router.post(
    "/models/load",
    summary="Load or unload a model; attach, detach or switch an adapter",
    responses={**problems.declared(404, 500, 503)},
)
def load_model(body: LoadRequest, parts: PartsDep) -> OwnModelsReply:
    """Done when it returns. A model that is asked without it is loaded by the first question."""
    models = parts.models
    match body.action, body.adapter:
        case "load", _:
            models.load(body.model)
        case "unload", _:
            models.unload(body.model)
        case "attach", adapter:
            models.load(body.model, adapter)
        case "detach", str(adapter):
            models.detach(body.model, adapter)
        case "switch", adapter:
            models.switch(body.model, adapter)
    return _own(models)


@router.post(
    "/models/merge",
    status_code=201,
    summary="Fold an adapter into its base",
    responses={**problems.declared(404, 409, 500, 503)},
)
def merge_adapter(body: MergeRequest, parts: PartsDep) -> OwnModelsReply:
    """Makes a model of its own, which is asked by its name. Done when it returns."""
    parts.making.merge(body.adapter, body.base, body.name)
    return _own(parts.models)


@router.post(
    "/models/export",
    status_code=201,
    summary="Write a model for other programs",
    responses={**problems.declared(404, 500, 503)},
)
def export_model(body: ExportRequest, parts: PartsDep) -> ExportReply:
    """A GGUF file with its Modelfile, or a folder for transformers, below LOREBASE_HOME/exports."""
    return ExportReply.of(parts.making.export(body.model, body.format, body.quantize))


def _own(models: Models, *, whole: bool = True) -> OwnModelsReply:
    """Own models and adapters; who is not for the whole hears that an adapter is stale, not by what."""
    adapters = models.list_adapters()
    if not whole:
        adapters = [replace(a, stale=a.stale and "what it was trained on has changed") for a in adapters]
    return OwnModelsReply(
        models=[ModelReply.of(m, default=m.name == models.default) for m in models.list_own()],
        adapters=[AdapterReply.of(a) for a in adapters],
        default=models.default,
    )
