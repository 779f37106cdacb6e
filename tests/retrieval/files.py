"""Real files of every kind, made by other libraries than those that read them wherever there is one."""

import datetime as dt
import io
import zipfile
import zlib
from functools import cache

import docx
import openpyxl
import pptx
from reportlab.lib import colors
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import PageBreak, Paragraph, Preformatted, SimpleDocTemplate, Table

from retrieval.conversion.limits import Limits

LIMITS = Limits(characters_max=200_000, pages_max=50, unzipped_bytes_max=32 * 1024 * 1024, unzipped_ratio_max=200)
TABLE = [["Region", "Limit", "Owner"], ["Europe", "500", "Ada Lovelace"], ["Asia", "750", "Alan Turing"]]


@cache
def pdf() -> bytes:
    style = getSampleStyleSheet()

    def footer(canvas: Canvas, document: SimpleDocTemplate) -> None:
        canvas.drawString(50, 20, f"Acme handbook, page {document.page}")

    parts = [
        Paragraph("Handbook", style["Title"]),
        Paragraph("Rotating keys", style["Heading2"]),
        Paragraph("Keys rotate every ninety days and are never sent by mail. " * 12, style["BodyText"]),
        Table(TABLE, style=[("GRID", (0, 0), (-1, -1), 1, colors.black)]),
        PageBreak(),
        Paragraph("Commands", style["Heading2"]),
        Preformatted("rotate --all\nrotate --key alpha", style["Code"]),
        PageBreak(),
        Paragraph("Holidays", style["Heading2"]),
        Paragraph("Everyone is away in August.", style["BodyText"]),
    ]
    return _built(parts, footer)


@cache
def two_columns() -> bytes:
    file = io.BytesIO()
    canvas = Canvas(file)
    for column, name in ((50, "left"), (320, "right")):
        for row in range(30):
            canvas.drawString(column, 780 - row * 14, f"{name} {row} continues here")
    canvas.save()
    return file.getvalue()


@cache
def pdf_of(pages: int) -> bytes:
    file = io.BytesIO()
    canvas = Canvas(file)
    for number in range(pages):
        canvas.drawString(72, 700, f"Only line of sheet {number}")
        canvas.showPage()
    canvas.save()
    return file.getvalue()


@cache
def encrypted_pdf() -> bytes:
    file = io.BytesIO()
    canvas = Canvas(file, encrypt=StandardEncryption("secret", canPrint=0))
    canvas.drawString(72, 700, "hidden")
    canvas.save()
    return file.getvalue()


@cache
def scanned_pdf() -> bytes:
    """Drawings only, as a scanner without OCR makes."""
    file = io.BytesIO()
    canvas = Canvas(file)
    canvas.rect(100, 100, 200, 200, fill=1)
    canvas.save()
    return file.getvalue()


@cache
def pdf_bomb(content_bytes: int) -> bytes:
    """A page whose content is packed twice, so that a few hundred bytes become `content_bytes`."""
    packed = zlib.compress(zlib.compress(b"\n" * content_bytes, 9), 9)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 300] /Contents 4 0 R >>",
        b"<< /Filter [/FlateDecode /FlateDecode] /Length %d >>\nstream\n%s\nendstream" % (len(packed), packed),
    ]
    file = bytearray(b"%PDF-1.4\n")
    places = []
    for number, each in enumerate(objects, start=1):
        places.append(len(file))
        file += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    start = len(file)
    file += b"xref\n0 5\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % place for place in places)
    file += b"trailer << /Root 1 0 R /Size 5 >>\nstartxref\n%d\n%%%%EOF" % start
    return bytes(file)


@cache
def word() -> bytes:
    document = docx.Document()
    document.add_heading("Handbook", 0)
    document.add_heading("Rotating keys", 1)
    document.add_paragraph("Keys rotate every ninety days.")
    document.add_paragraph("ask the owner", style="List Bullet")
    document.add_paragraph("run the command", style="List Bullet")
    document.add_heading("Limits", 2)
    table = document.add_table(len(TABLE), len(TABLE[0]))
    for row, cells in enumerate(TABLE):
        for column, cell in enumerate(cells):
            table.cell(row, column).text = cell.replace("Ada", "Ada | Countess")
    return _saved(document)


@cache
def slides() -> bytes:
    presentation = pptx.Presentation()
    first = presentation.slides.add_slide(presentation.slide_layouts[1])
    first.shapes.title.text = "Rotating keys"
    first.placeholders[1].text = "every ninety days\nnever by mail"
    first.notes_slide.notes_text_frame.text = "Mention the auditors."
    second = presentation.slides.add_slide(presentation.slide_layouts[5])
    second.shapes.title.text = "Limits"
    table = second.shapes.add_table(len(TABLE), len(TABLE[0]), 0, 0, 4_000_000, 1_000_000).table
    for row, cells in enumerate(TABLE):
        for column, cell in enumerate(cells):
            table.cell(row, column).text = cell
    return _saved(presentation)


@cache
def workbook(rows: int = 2) -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Limits"
    sheet.append(["Region", "Limit", "Since"])
    for row in range(rows):
        sheet.append([f"Region {row}", 500 + row, dt.datetime(2026, 1, 2, 3, 4, tzinfo=None)])  # noqa: DTZ001 - as Excel
    other = book.create_sheet("Owners")
    other.append(["Name", "Active"])
    other.append(["Ada | Countess", True])
    hidden = book.create_sheet("Secrets")
    hidden.append(["password"])
    hidden.sheet_state = "hidden"
    return _saved(book)


@cache
def sparse_workbook() -> bytes:
    """Two cells that are seventeen billion apart."""
    book = openpyxl.Workbook()
    sheet = book.active
    sheet["A1"] = 1
    sheet["XFD1048576"] = 2
    return _saved(book)


def rezipped(content: bytes, **changed: bytes) -> bytes:
    """An Office file with some of its parts replaced; `word__document` stands for `word/document.xml`."""
    replaced = {f"{name.replace('__', '/')}.xml": part for name, part in changed.items()}
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        for part in source.infolist():
            target.writestr(part.filename, replaced.get(part.filename, source.read(part)))
    return file.getvalue()


def billion_laughs() -> bytes:
    entities = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    text = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a0 "ha">{entities}]><x>&a9;</x>'
    return rezipped(word(), word__document=text.encode())


def encrypted_office() -> bytes:
    """The start of what Office writes for a file with a password: a container of streams with UTF-16 names."""
    name = "EncryptedPackage".encode("utf-16-le")
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 504 + name + b"\xff" * 512


def _built(parts: list[object], footer: object) -> bytes:
    file = io.BytesIO()
    SimpleDocTemplate(file).build(parts, onFirstPage=footer, onLaterPages=footer)
    return file.getvalue()


def _saved(document: object) -> bytes:
    file = io.BytesIO()
    document.save(file)  # type: ignore[attr-defined]
    return file.getvalue()
