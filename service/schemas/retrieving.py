"""What requests in other APIs' dialects may say about how to search.

`context` of our own routes is not among them: Ollama means something else by it.
"""

from __future__ import annotations

from pydantic import BaseModel, Field

from ingest.types import SearchMode
from service.errors import UnsupportedField
from service.schemas.filtering import Filters


class Retrieving(BaseModel):
    """Fields beside those of OpenAI and Ollama; they mean something with `lorebase:COLLECTION` only."""

    k: int | None = Field(None, ge=1, le=50, description="with lorebase:COLLECTION: number of passages")
    search_mode: SearchMode | None = Field(None, description="with lorebase:COLLECTION")
    filters: Filters | None = None
    rerank: bool | None = Field(
        None, description="with lorebase:COLLECTION: let the setting `reranker` order the first passages anew"
    )

    def refuse_without_documents(self) -> None:
        """Raises UnsupportedField where a filter is set for a model that looks at no documents."""
        for name in ("filters", "rerank", "k", "search_mode"):
            if getattr(self, name) not in (None, False):
                raise UnsupportedField(name, "only with the model lorebase:COLLECTION")
