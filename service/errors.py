"""What can go wrong in a conversation.

    ServiceError
    ├── Busy                the queue is full; nothing was done for this request
    ├── RateLimited         one caller sends too many requests
    ├── DeadlineExceeded    the request ran past `deadline_s`; its slot is free again
    ├── NotReady            the index or the models are still being loaded
    ├── WeightsMissing      weights are not installed; names the command that fetches them
    ├── QuestionTooLong     past `max_question_chars`
    ├── UploadTooLarge      past `max_upload_mb` or `max_upload_files`
    ├── UnsupportedMedia    a body that is neither JSON nor a form
    ├── InvalidUpload       no file, no text, or a name that cannot be used
    ├── InvalidRequest      an argument of the command line that does not fit
    ├── UnsupportedField    a field of another API that means something, and that nobody here can do
    ├── InvalidClasses      labels or examples that cannot be told apart, or are too many
    ├── UnknownClassifier   no classifier of that name
    ├── DamagedClassifier   its file cannot be read
    ├── BuiltIn             it came with the program and cannot be deleted
    ├── UnknownJob          no job of that id
    ├── UnknownName         no training run, set, comparison or page of that name
    ├── UnreadablePage      a page that cannot be drawn
    ├── NoOriginal          the file of a document is gone, or has changed
    ├── NameTaken           something has that name already
    ├── RunActive           another run or comparison has the machine
    ├── UnknownSession      no conversation of that name
    ├── ForeignOrigin       a page of another site sent the request
    ├── Unauthorized        the request brought no key, or not the right one
    ├── Forbidden           the key's role or its collections do not reach so far
    ├── InvalidKey          a key that cannot be made like that
    ├── UnknownKey          no key of that name
    ├── RecordsUnavailable  keys and conversations cannot be read or written; `database.RecordsAway`: not now
    ├── BadKeyFile          the file with the key cannot be read or holds no key: refuses to start
    ├── PortInUse           somebody else listens there
    ├── UnsafeBind          an address other than loopback without keys: refuses to start
    └── UpstreamError       another server (Ollama) failed while answering
        ├── UpstreamUnreachable   it does not answer at all; names the address tried
        ├── ModelNotPulled        it answers and lacks the model; names the command that pulls it
        │   └── ModelNotServed    the same of an OpenAI-style server
        └── UpstreamRefused       it finds fault with the request itself

A message says what happened, where, and what to do next; `service.problems` puts it on the wire.
"""

from __future__ import annotations


class ServiceError(Exception):
    """Root of the tree."""


class Busy(ServiceError):
    """The queue is full."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimited(ServiceError):
    """One caller sends too many requests."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(ServiceError):
    """The request ran past its deadline."""


class NotReady(ServiceError):
    """The index or the models are still being loaded."""

    retry_after_s = 2


class WeightsMissing(ServiceError):
    """Weights are not installed."""


class QuestionTooLong(ServiceError):
    """The question has more characters than the service accepts."""


class UploadTooLarge(ServiceError):
    """More bytes or files than the service accepts."""


class UnsupportedMedia(ServiceError):
    """A body that is neither JSON nor a form."""


class InvalidUpload(ServiceError):
    """An upload that holds nothing, or a name that cannot be used."""


class UnknownJob(ServiceError):
    """No job of that id."""


class UnknownSession(ServiceError):
    """No conversation of that name."""


class UnknownName(ServiceError):
    """No training run, set, comparison or page of that name."""


class UnreadablePage(ServiceError):
    """A page that cannot be drawn."""


class NoOriginal(ServiceError):
    """The file of a document is gone, or has changed."""


class NameTaken(ServiceError):
    """Something has that name already."""


class RunActive(ServiceError):
    """Another run or comparison has the machine."""


class ForeignOrigin(ServiceError):
    """A page of another site sent the request."""


class Unauthorized(ServiceError):
    """The request brought no key, or not the right one."""


class Forbidden(ServiceError):
    """The key does not reach so far."""


class InvalidKey(ServiceError):
    """A key that cannot be made like that."""


class UnknownKey(ServiceError):
    """No key of that name."""


class RecordsUnavailable(ServiceError):
    """The service's own file or database of keys and conversations cannot be used."""


class BadKeyFile(ServiceError):
    """The file with the key cannot be read, or holds no key."""


class InvalidRequest(ServiceError):
    """An argument that does not fit."""


class UnsupportedField(ServiceError):
    """A field that means something, and that nobody here can do."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.detail = [{"where": field, "message": message}]


class QuestionsUnreadable(ServiceError):
    """A file of questions that cannot be read; names file and line."""


class InvalidClasses(ServiceError):
    """Labels or examples that cannot be told apart, or too many of them."""


class UnknownClassifier(ServiceError):
    """No classifier of that name."""


class DamagedClassifier(ServiceError):
    """A classifier's file cannot be read."""


class BuiltIn(ServiceError):
    """It came with the program and cannot be deleted."""


class PortInUse(ServiceError):
    """Somebody else listens on the port."""


class UnsafeBind(ServiceError):
    """Binding beyond loopback without keys."""


class UpstreamError(ServiceError):
    """Another server failed while answering."""


class UpstreamUnreachable(UpstreamError):
    """Another server does not answer."""


class ModelNotPulled(UpstreamError):
    """The upstream lacks the model."""


class ModelNotServed(ModelNotPulled):
    """An OpenAI-style server lacks the model."""


class UpstreamRefused(UpstreamError):
    """The upstream finds fault with the request itself."""
