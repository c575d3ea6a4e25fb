"""The wire: what requests may hold and what replies do hold. Unknown fields are refused, numbers are bounded.

These shapes are kept apart from the inner ones, so that what other programs hold on to changes only on
purpose.
"""

from service.schemas.asking import (
    AskReply,
    AskRequest,
    CitationReply,
    Passage,
    SearchReply,
    SearchRequest,
    StatementReply,
    TimingsReply,
    UsageReply,
)
from service.schemas.classifying import (
    ClassifierBody,
    ClassifierReply,
    ClassifiersReply,
    ClassifyReply,
    ClassifyRequest,
)
from service.schemas.filtering import DocumentPatch, Fields, Filters
from service.schemas.library import (
    ChunkReply,
    ChunksReply,
    DeletedReply,
    DocumentReply,
    DocumentsReply,
    TextReply,
    TextUpload,
)
from service.schemas.models import (
    AdapterReply,
    LoadRequest,
    ModelReply,
    ModelsReply,
    OwnModelsReply,
    UpstreamReply,
)
from service.schemas.operations import (
    CollectionReply,
    CollectionsReply,
    FileReply,
    HealthReply,
    JobReply,
    JobsReply,
    NewCollection,
    ReadyReply,
    WhoReply,
)
from service.schemas.wire import CollectionName, Reply, Request, Text, Words

__all__ = [
    "AdapterReply",
    "AskReply",
    "AskRequest",
    "ChunkReply",
    "ChunksReply",
    "CitationReply",
    "ClassifierBody",
    "ClassifierReply",
    "ClassifiersReply",
    "ClassifyReply",
    "ClassifyRequest",
    "CollectionName",
    "CollectionReply",
    "CollectionsReply",
    "DeletedReply",
    "DocumentPatch",
    "DocumentReply",
    "DocumentsReply",
    "Fields",
    "FileReply",
    "Filters",
    "HealthReply",
    "JobReply",
    "JobsReply",
    "LoadRequest",
    "ModelReply",
    "ModelsReply",
    "NewCollection",
    "OwnModelsReply",
    "Passage",
    "ReadyReply",
    "Reply",
    "Request",
    "SearchReply",
    "SearchRequest",
    "StatementReply",
    "Text",
    "TextReply",
    "TextUpload",
    "TimingsReply",
    "UpstreamReply",
    "UsageReply",
    "WhoReply",
    "Words",
]
