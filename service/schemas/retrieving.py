"""What every request that searches may say about how, in our own routes and in other APIs' dialects."""

from __future__ import annotations

from pydantic import BaseModel, Field

from ingest.types import SearchMode
from service.errors import UnsupportedField
from service.events import Context
from service.schemas.filtering import Filters


class Retrieving(BaseModel):
    """Fields beside those of OpenAI and Ollama; they mean something with `lorebase:COLLECTION` only."""

    k: int | None = Field(None, ge=1, le=50, description="with lorebase:COLLECTION: number of passages")
    search_mode: SearchMode | None = Field(None, description="with lorebase:COLLECTION")
    filters: Filters | None = None
    rerank: bool | None = Field(
        None, description="with lorebase:COLLECTION: let the setting `reranker` order the first passages anew"
    )
    context: Context = Field(
        "passage", description="with lorebase:COLLECTION: section: passages with the section around them"
    )

    def refuse_without_documents(self) -> None:
        """Raises UnsupportedField where a filter is set for a model that looks at no documents."""
        for name in ("filters", "rerank", "k", "search_mode"):
            if getattr(self, name) not in (None, False):
                raise UnsupportedField(name, "only with the model lorebase:COLLECTION")
