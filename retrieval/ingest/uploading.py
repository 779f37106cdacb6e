"""Uploaded files to documents. Pure."""

from shared import content_types as kinds
from shared.errors import invalid
from shared.forms import UploadedFile
from shared.messages import Id
from shared.retrieval_messages import DocumentIn, UploadForm
from shared.wire import convert


def documents_of(form: UploadForm) -> list[DocumentIn]:
    """A file is named by its file name. Raises InvalidFields."""
    if form.id is not None and len(form.file) > 1:
        raise invalid("$.id", f"names one document, but {len(form.file)} files were sent; leave it out")
    return [
        DocumentIn(
            id=form.id or _name(file, f"$.file[{index}]"),
            content=file.content,
            content_type=_kind(file),
            title=form.title,
            uri=file.name,
            metadata=form.metadata,
        )
        for index, file in enumerate(form.file)
    ]


def _name(file: UploadedFile, path: str) -> str:
    if not file.name:
        raise invalid(path, "has no file name; send one, or an id")
    return convert(file.name, Id, root=path)


def _kind(file: UploadedFile) -> str | None:
    """Browsers and curl guess types from tables of their own. What they say counts if it is of use; else the content and
    the name decide, so that one file of a strange type fails by itself and not the whole upload."""
    declared, named = file.content_type, kinds.named_kind(file.name)
    kind = kinds.canonical(declared)
    if kind in {None, kinds.UNKNOWN} or (kind in kinds.BINARY and named in kinds.TEXTUAL):
        return None  # a machine with Excel calls CSV so
    if kind == kinds.PLAIN and kinds.charset_of(declared) is None:
        return named or declared  # as which everything is sent that has no better name
    return declared
