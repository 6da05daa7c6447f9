"""A folder of documents to passages, all at once."""

from pathlib import Path

from experts.errors import ConfigurationError
from retrieval.document import Unreadable
from retrieval.passage import Passage
from retrieval.read import read_documents
from retrieval.splitting import split_document


def load_corpus(folder: Path) -> tuple[Passage, ...]:
    """The passages of a folder's documents, by path, then by place; ConfigurationError for an unreadable one."""
    passages: list[Passage] = []
    for document in read_documents([str(folder)]):
        if isinstance(document, Unreadable):
            raise ConfigurationError(f"corpus file {document.source} {document.reason}")
        passages += split_document(document)
    return tuple(passages)
