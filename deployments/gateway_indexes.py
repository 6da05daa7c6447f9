"""The gateway's routes for indexes: look, search, add, remove, roll back."""

from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from typing import Any, get_args

from fastapi import FastAPI
from fastapi.responses import Response
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from deployments.domain_index import DomainIndex, IndexChange, Reading
from deployments.gateway_service import GatewayService, Serving
from deployments.request_edge import JSON, build_json, check_media_type, read_body, read_json, read_record
from deployments.request_fields import Fields, describe_type, printable, quote
from experts.errors import BadRequest, NotFound
from experts.search_mode import SearchMode
from retrieval.document import CannotRead, Document, Unreadable, build_document
from retrieval.filters import parse_filter
from retrieval.read import parse_document

INDEX_ROUTES = (
    "GET /v1/indexes, GET /v1/indexes/DOMAIN, POST /v1/indexes/DOMAIN/documents, "
    "DELETE /v1/indexes/DOMAIN/documents/ID, POST /v1/indexes/DOMAIN/search, POST /v1/indexes/DOMAIN/rollback"
)
MAX_DOCUMENTS = 1000
MAX_FILES = 100
MAX_PASSAGES = 1000
MULTIPART = "multipart/form-data"


def add_index_routes(app: FastAPI, service: GatewayService) -> None:
    """Reading needs what every route needs; writing needs an index key."""

    def find(serving: Serving, domain: str) -> DomainIndex:
        return service.desk.index(domain, serving.fleet, serving.indexes, serving.encoder)

    def check_writer(request: Request) -> None:
        service.index_keys.check(request.headers.get("authorization"), request.headers.get("origin"))

    def conclude(request: Request, index: DomainIndex, change: IndexChange) -> Response:
        read_record(request).fields |= {"domain": change.domain, "version": change.version}
        if change.changed:
            service.desk.compact_beside(index)
        return build_json(change.describe())

    @app.get("/v1/indexes")
    async def list_indexes() -> Response:
        serving = service.serving()
        indexes = [find(serving, name) for name in serving.fleet.domains if name in serving.indexes]
        described = [await service.desk.read(index.describe) for index in indexes]
        return build_json({"object": "list", "data": described})

    @app.get("/v1/indexes/{domain}")
    async def describe_index(domain: str) -> Response:
        return build_json(await service.desk.read(find(service.serving(), domain).describe))

    @app.post("/v1/indexes/{domain}/documents")
    async def add_documents(request: Request, domain: str) -> Response:
        check_writer(request)
        serving = service.serving()
        index = find(serving, domain)
        documents = await _read_documents(request, serving)
        reading = Reading()
        change = await service.desk.write(lambda: index.add(documents, reading))
        if not reading.read:
            reasons = "; ".join(f"{printable(item.source)}: {item.reason}" for item in reading.unreadable)
            raise BadRequest(f"no document could be read: {reasons or 'none was sent'}; the index is as it was")
        return conclude(request, index, change)

    @app.delete("/v1/indexes/{domain}/documents/{document:path}")
    async def remove_document(request: Request, domain: str, document: str) -> Response:
        check_writer(request)
        index = find(service.serving(), domain)
        change = await service.desk.write(lambda: index.remove([document]))
        if change.missing:
            raise NotFound(
                f"the index of domain '{domain}' has no document {quote(document)}; ids stand in citations and in the "
                "results of a search",
                "document",
            )
        return conclude(request, index, change)

    @app.post("/v1/indexes/{domain}/search")
    async def search(request: Request, domain: str) -> Response:
        serving = service.serving()
        index = find(serving, domain)
        fields = Fields(await read_json(request, serving.fleet.gateway.max_body_kib))
        fields.check_known({"query", "passages", "mode", "filter"})
        text = fields.required_text("query")
        if not text.strip():
            fields.fail("query", "is empty; ask something")
        passages = fields.integer("passages", 1, MAX_PASSAGES)
        mode = fields.choice("mode", get_args(SearchMode))
        chosen = parse_filter(fields.get("filter"))
        found = await service.desk.read(lambda: index.search(text, passages, mode, chosen))  # type: ignore[arg-type]
        return build_json(found)

    @app.post("/v1/indexes/{domain}/rollback")
    async def roll_back(request: Request, domain: str) -> Response:
        check_writer(request)
        serving = service.serving()
        index = find(serving, domain)
        fields = Fields(await read_json(request, serving.fleet.gateway.max_body_kib))
        fields.check_known({"version"})
        version = fields.text("version")
        return conclude(request, index, await service.desk.write(lambda: index.rollback(version)))


async def _read_documents(request: Request, serving: Serving) -> Iterable[Document | Unreadable]:
    """The documents of a JSON body, or the files of a form; read whole, within the limit of every body."""
    limit_kib = serving.fleet.gateway.max_body_kib
    if check_media_type(request, JSON, MULTIPART) == JSON:
        return _parse_records(await read_json(request, limit_kib))
    body = await read_body(request, limit_kib)

    async def stream() -> AsyncGenerator[bytes]:
        yield body

    try:
        parser = MultiPartParser(
            request.headers, stream(), max_files=MAX_FILES, max_fields=1, max_part_size=max(len(body), 1)
        )
        form = await parser.parse()
    except MultiPartException as error:
        raise BadRequest(
            f"the form cannot be read: {error.message}; send at most {MAX_FILES} files as the fields 'file'"
        ) from error
    except (KeyError, ValueError) as error:
        raise BadRequest("the form has no boundary or is cut off; let an HTTP client encode it") from error
    uploads = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    files = [(upload.filename or "", await upload.read()) for upload in uploads]
    await form.close()
    if not files:
        raise BadRequest("the form has no file; send files as the fields 'file'")
    return _parse_files(files)


def _parse_records(body: Mapping[str, Any]) -> list[Document]:
    """The documents of a JSON body; raises BadRequest naming the field."""
    fields = Fields(body)
    fields.check_known({"documents"})
    records = fields.array("documents")
    if not records:
        fields.fail("documents", "is missing or empty; send an array of objects with id and text")
    if len(records) > MAX_DOCUMENTS:
        fields.fail("documents", f"has {len(records)} items, limit {MAX_DOCUMENTS}; send several requests")
    documents: dict[str, Document] = {}
    for position, record in enumerate(records):
        path = f"documents[{position}]"
        if not isinstance(record, dict):
            raise BadRequest(f"{path} is {describe_type(record)}, expected an object with id and text", path)
        document = _parse_record(record, path)
        if document.id in documents:
            raise BadRequest(f"{path}.id is {quote(document.id)} again; send each document once", f"{path}.id")
        documents[document.id] = document
    return list(documents.values())


def _parse_record(record: Mapping[str, Any], path: str) -> Document:
    fields = Fields(record, path)
    fields.check_known({"id", "text", "title", "metadata"})
    id_, text, title = fields.required_text("id"), fields.required_text("text"), fields.text("title") or ""
    metadata = fields.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        fields.fail("metadata", f"is {describe_type(metadata)}, expected an object")
    try:
        return build_document(id_, text, title, metadata)
    except CannotRead as error:
        raise BadRequest(f"{path} {error}", path) from error


def _parse_files(files: Iterable[tuple[str, bytes]]) -> Iterator[Document | Unreadable]:
    for name, data in files:
        # What a browser sends may be a path; only its last part is a name, and nothing is written under it.
        plain = name.replace("\\", "/").rsplit("/", 1)[-1]
        yield from parse_document(plain, data)
