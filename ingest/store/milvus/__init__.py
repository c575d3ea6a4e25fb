"""A store on Milvus: for more documents, or more machines, than one SQLite file serves.

Milvus finds; it has no transactions. So what `ingest.store.Store` promises is built of three things that any
Milvus (a cluster, Standalone, a Lite file) has: rows that are written once, one row that is replaced whole,
and reads of consistency level Strong.

- `state`: one row says which generation is current, how much there is, and which versions of documents are
  dead. Writing it is the only commit point.
- Everything else carries the generation in which it was born and the version of the document it belongs to.
  A reader takes the state and looks at rows `born <= generation and version not in dead`, in every search. So
  rows of an unfinished write are seen by nobody, and a document is replaced when the state says so.
- Dead rows are deleted once no reader of an older generation can want them (`grace_s`), rows of a write that
  broke off by the next writer.

Rows are upserted under keys of our own, so a repeated write writes nothing twice. One writer at a time holds
the lease (`milvus.lease`); between machines there is no other lock.

Every row carries a checksum, as in SQLite. Milvus proposes passages; their cosines and their BM25 are
computed from what is stored of them, so meaning and order of scores are those of the embedded store.
"""
