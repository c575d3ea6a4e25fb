"""`POST /score` and `POST /embed`: what the models make of texts, in numbers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from fastapi import APIRouter, Request

from model.errors import UnsupportedModel
from service import problems
from service.deps import PartsDep
from service.generators import Scores
from service.models import Choice
from service.routes.conversing import submit_texts
from service.routes.listening import listen
from service.schemas.vectors import EmbedReply, EmbedRequest, ScoredReply, ScoreReply, ScoreRequest

router = APIRouter(tags=["models"])


@dataclass(frozen=True, slots=True)
class _Scoring:
    body: ScoreRequest
    choice: Choice

    def run(self, cancel: threading.Event) -> Iterator[ScoreReply]:
        """The job: blocks, runs in a slot's thread."""
        generator = self.choice.get()
        if not isinstance(generator, Scores):
            raise UnsupportedModel(
                f"{generator.name} cannot score a given text; models of our own engine can"
            )
        engine = generator.engine
        tokenizer, given = engine.tokenizer, self.body.continuations
        prompt, ids = tokenizer.begin(self.body.prompt), [tokenizer.encode(text) for text in given]
        found = engine.score(prompt, ids, cancel=cancel)
        results = [
            ScoredReply(
                text=text,
                tokens=[tokenizer.decode([token]) for token in tokens],
                token_ids=tokens,
                logprobs=logprobs,
                logprob=sum(logprobs),
            )
            for text, tokens, logprobs in zip(given, ids, found, strict=True)
        ]
        yield ScoreReply(model=generator.name, prompt_tokens=len(prompt), results=results)


@router.post(
    "/score",
    summary="How likely given continuations are",
    responses={**problems.declared(404, 429, 500, 503, 504)},
)
async def score(body: ScoreRequest, request: Request, parts: PartsDep) -> ScoreReply:
    """Log-probability of each token of each continuation behind the prompt, which is read once."""
    choice = parts.models.choose(body.model)
    if not choice.own:
        raise UnsupportedModel("other servers cannot score a given text; models of our own engine can")
    if choice.default:
        parts.readiness.require("generator")
    ticket = parts.runner.submit(_Scoring(body, choice).run, parts.settings.deadline_s)
    async with contextlib.aclosing(listen(request, ticket)) as events:
        return await anext(events)


@router.post(
    "/embed", summary="Texts to unit vectors", responses={**problems.declared(404, 429, 500, 503, 504)}
)
async def embed(body: EmbedRequest, request: Request, parts: PartsDep) -> EmbedReply:
    """By the embedder of new collections; queries and passages are read as that model wants them."""
    ticket = submit_texts(parts, body.model, body.texts, body.kind, truncate=body.truncate)
    async with contextlib.aclosing(listen(request, ticket)) as events:
        found = await anext(events)
    return EmbedReply(
        model=found.model,
        dimension=found.vectors.shape[1],
        vectors=found.vectors.tolist(),
        tokens=found.tokens,
    )
