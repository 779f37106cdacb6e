"""Spreadsheets: a heading and a table for each sheet that is not hidden."""

import datetime as dt
import io
from collections.abc import Iterator
from typing import Any

import python_calamine as calamine

from retrieval.chunks.parsing import Parsed
from retrieval.conversion.composing import Composer
from retrieval.conversion.limits import Limits, Unreadable, too_long
from retrieval.conversion.zipped import check_archive
from shared.content_types import ODS, XLS, XLSX


def convert_xlsx(content: bytes, limits: Limits) -> Parsed:
    check_archive(content, limits)
    return _convert(content, limits, XLSX)


def convert_ods(content: bytes, limits: Limits) -> Parsed:
    check_archive(content, limits)
    return _convert(content, limits, ODS)


def convert_xls(content: bytes, limits: Limits) -> Parsed:
    return _convert(content, limits, XLS)


def _convert(content: bytes, limits: Limits, kind: str) -> Parsed:
    composer = Composer(limits)
    try:
        with calamine.CalamineWorkbook.from_filelike(io.BytesIO(content)) as workbook:
            for sheet in workbook.sheets_metadata:
                if sheet.typ == calamine.SheetTypeEnum.WorkSheet and sheet.visible == calamine.SheetVisibleEnum.Visible:
                    rows = list(_rows(workbook.get_sheet_by_name(sheet.name), limits))
                    if rows:
                        composer.heading(sheet.name, 1)
                        composer.table(rows)
    except calamine.PasswordError as error:
        raise Unreadable("encrypted: remove the password") from error
    except (calamine.CalamineError, OSError, ValueError) as error:
        raise Unreadable(f"broken: it cannot be read as a spreadsheet ({error})") from error
    return composer.finish(kind)


def _rows(sheet: calamine.CalamineSheet, limits: Limits) -> Iterator[list[str]]:
    """Without the rows and columns that are empty at the end. A long sheet fails before it is held whole."""
    characters = 0
    for row in sheet.iter_rows():
        cells = [_text(cell) for cell in row]
        while cells and not cells[-1]:
            cells.pop()
        if cells:
            characters += sum(map(len, cells)) + len(cells)
            if characters > limits.characters_max:
                raise too_long(limits)
            yield cells


def _text(cell: Any) -> str:
    match cell:
        case float() if cell.is_integer():
            return str(int(cell))  # spreadsheets know only floating point
        case dt.datetime():
            return cell.isoformat(" ")
        case dt.date() | dt.time():
            return cell.isoformat()
        case bool():
            return "true" if cell else "false"
        case _:
            return str(cell).strip()
