from __future__ import annotations

import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from localsmith.agents.tools.call import call_tool
from localsmith.agents.tools.sql import library_tables, sql_tools
from localsmith.agents.tools.tables import TableFile, Tables, load_tables
from localsmith.agents.tools.tool import ToolContext
from localsmith.agents.tools.workbook import read_workbook
from localsmith.core.errors import LoadError, ToolArgumentError, ToolExecutionError
from localsmith.core.types import Document, Question

SALES = (
    "Region,Sales (kEUR),Since,Code\nEMEA,12.5,2020-01-31,007\nAPAC,7,2021-05-01,012\nEMEA,,2019-03-03,100\n"
)
CONTEXT = ToolContext(Question("?"))
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


@pytest.fixture
def sales(tmp_path: Path) -> TableFile:
    path = tmp_path / "stored-under-a-hash"
    path.write_text(SALES)
    return TableFile("2024 sales.csv", path)


@pytest.fixture
def tables(sales: TableFile) -> Iterator[Tables]:
    with closing(load_tables([sales])) as tables:
        yield tables


def workbook(path: Path, sheet: str, styles: str = "", extra: dict[str, str] | None = None) -> Path:
    files = {
        "[Content_Types].xml": "<Types/>",
        "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="http://schemas.openxmlformats.org/officeDocument'
        '/2006/relationships"><sheets><sheet name="Stock" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/'
        'relationships"><Relationship Id="r1" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/sharedStrings.xml": f'<sst xmlns="{MAIN}"><si><t>Part</t></si>'
        "<si><r><t>Bo</t></r><r><t>lt</t></r></si></sst>",
        "xl/styles.xml": f'<styleSheet xmlns="{MAIN}">{styles}<cellXfs><xf numFmtId="0"/><xf numFmtId="14"/>'
        "</cellXfs></styleSheet>",
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{MAIN}"><sheetData>{sheet}</sheetData></worksheet>',
        **(extra or {}),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


STOCK = (
    '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="inlineStr"><is><t>Count</t></is></c>'
    '<c r="D1" t="str"><v>Bought</v></c></row>'
    '<row r="2"><c r="A2" t="s"><v>1</v></c><c r="B2"><v>12</v></c><c r="D2" s="1"><v>45292</v></c></row>'
)


def test_a_csv_becomes_a_table_with_names_and_types(tables: Tables) -> None:
    (table,) = tables.tables
    assert table.name == "t_2024_sales"
    assert table.columns == (
        ("region", "TEXT"), ("sales_keur", "REAL"), ("since", "TEXT"), ("code", "TEXT"),
    )  # fmt: skip
    result = tables.query("SELECT region, sum(sales_keur) s FROM t_2024_sales GROUP BY 1 ORDER BY 2 DESC", 10)
    assert result.columns == ("region", "s")
    assert result.rows == (("EMEA", 12.5), ("APAC", 7))
    assert tables.query("SELECT code FROM t_2024_sales WHERE sales_keur IS NULL OR code = '007'", 9).rows == (
        ("007",),
        ("100",),
    )


def test_a_workbook_becomes_a_table_with_its_dates(tmp_path: Path) -> None:
    path = workbook(tmp_path / "stock.xlsx", STOCK)
    (sheet,) = read_workbook(path, "stock.xlsx", 100)
    assert sheet.rows == (("Part", "Count", None, "Bought"), ("Bolt", 12, None, "2024-01-01"))
    with closing(load_tables([TableFile("stock.xlsx", path)])) as tables:
        assert tables.query("SELECT part, count, bought FROM stock", 5).rows == (("Bolt", 12, "2024-01-01"),)


def test_a_workbook_with_entities_is_refused(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa">]><sst xmlns="' + MAIN + '"><si><t>&a;</t></si></sst>'
    path = workbook(tmp_path / "bomb.xlsx", STOCK, extra={"xl/sharedStrings.xml": bomb})
    with pytest.raises(LoadError):
        read_workbook(path, "bomb.xlsx", 10)


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM t_2024_sales",
        "DROP TABLE t_2024_sales",
        "INSERT INTO t_2024_sales VALUES (1,2,3,4)",
        "UPDATE t_2024_sales SET code = 1",
        "CREATE TABLE x (a)",
        "CREATE TEMP VIEW v AS SELECT 1",
        "ATTACH DATABASE '/tmp/evil.sqlite3' AS evil",
        "PRAGMA query_only=OFF",
        "PRAGMA table_info(t_2024_sales)",
        "VACUUM INTO '/tmp/evil.sqlite3'",
        "SELECT load_extension('/tmp/evil.so')",
        "SELECT readfile('/etc/passwd')",
        "SELECT 1; DROP TABLE t_2024_sales",
        "WITH x AS (SELECT 1) DELETE FROM t_2024_sales",
        "EXPLAIN DELETE FROM t_2024_sales",
        "BEGIN",
        "ANALYZE",
        "SELECT hex(zeroblob(500000000))",
        "SELECT nothing FROM nowhere",
        "not sql",
        "",
    ],
)
def test_nothing_but_a_select_over_the_tables_runs(tables: Tables, sql: str) -> None:
    with pytest.raises(ToolArgumentError):
        tables.query(sql, 10)
    assert tables.query("SELECT count(*) FROM t_2024_sales", 1).rows == ((3,),)
    assert not Path("/tmp/evil.sqlite3").exists()


def test_a_query_that_runs_on_is_ended_in_time_and_when_nobody_waits(tables: Tables) -> None:
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n) SELECT count(*) FROM n"
    begun = time.monotonic()
    with pytest.raises(ToolExecutionError):
        tables.query(endless, 1, timeout_s=0.2)
    cancel = threading.Event()
    threading.Timer(0.1, cancel.set).start()
    with pytest.raises(ToolExecutionError):
        tables.query(endless, 1, cancel=cancel)
    assert time.monotonic() - begun < 3
    assert tables.query("SELECT 1", 1).rows == ((1,),)


def test_the_tools_list_and_query_the_tables_of_the_question(sales: TableFile) -> None:
    list_tables, query = sql_tools(lambda question: [sales] if question.collection == "a" else [])
    context = ToolContext(Question("?", collection="a"))
    assert call_tool(list_tables, {}, context).text == (
        "t_2024_sales(region TEXT, sales_keur REAL, since TEXT, code TEXT): 3 rows"
    )
    told = call_tool(query, {"sql": "SELECT max(sales_keur) AS most FROM t_2024_sales"}, context).text
    assert told == "most\n12.5"
    with pytest.raises(ToolArgumentError, match="t_2024_sales"):
        call_tool(query, {"sql": "SELECT x FROM sales"}, context)
    with pytest.raises(ToolExecutionError, match="no tables"):
        call_tool(query, {"sql": "SELECT 1 AS one"}, CONTEXT)


def test_a_query_returns_a_limited_number_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "n.csv"
    path.write_text("n,m\n" + "".join(f"{i},1\n" for i in range(500)))
    _, query = sql_tools(lambda question: [TableFile("n.csv", path)])
    lines = call_tool(query, {"sql": "SELECT n FROM n"}, CONTEXT).text.splitlines()
    assert len(lines) == 22 and "more than 20 rows" in lines[-1]


def test_changed_files_are_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "n.csv"
    path.write_text("n\n1\n")
    _, query = sql_tools(lambda question: [TableFile("n.csv", path)])
    assert call_tool(query, {"sql": "SELECT sum(n) FROM n"}, CONTEXT).text.endswith("1")
    path.write_text("n\n1\n41\n")
    assert call_tool(query, {"sql": "SELECT sum(n) FROM n"}, CONTEXT).text.endswith("42")


def test_only_tables_among_the_chosen_documents_are_found(tmp_path: Path) -> None:
    class Shelf:
        def documents(self, collection: str) -> list[Document]:
            return [
                Document("1", collection, "a.csv", "text/csv", "", 1, None, 1, 0.0),
                Document("2", collection, "b.pdf", "application/pdf", "", 1, None, 1, 0.0),
                Document("3", collection, "c.tab", "text/csv", "", 1, None, 1, 0.0),
            ]

        def document_path(self, document_id: str) -> Path:
            return tmp_path / document_id

    find = library_tables(Shelf())
    assert [file.name for file in find(Question("?"))] == ["a.csv", "c.tab.csv"]
    assert [file.name for file in find(Question("?", document_ids=("3",)))] == ["c.tab.csv"]
    assert find(Question("?", collection=None)) == []
