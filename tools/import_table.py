"""An import-linter contract: each module of the package imports only what its row of a table names.

import-linter's own contract types need a section for each module; this table stands in setup.cfg as it stands
in docs/architecture.md, and its rows name third-party packages too.
"""

from __future__ import annotations

import sys
from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class ImportTable(Contract):
    """``rows``: ``MODULE: what it may import``; ``guarded``: standard library modules that need naming."""

    type_name = "table"

    rows = fields.ListField(subfield=fields.StringField())
    guarded = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        root = self.session_options["root_packages"][0]
        rows: Any = self.rows  # a descriptor's value, which import-linter leaves untyped
        guarded: Any = self.guarded
        table: dict[str, set[str]] = {}
        module = ""
        for row in rows:  # one that names no module goes on with the row before
            before, colon, names = row.rpartition(":")
            module = before if colon else module
            table.setdefault(module, set()).update(names.split())
        free = (set(sys.stdlib_module_names) | {root}) - set(guarded)
        faults = []
        for importer in sorted(graph.find_descendants(root)):
            module = importer.removeprefix(f"{root}.")
            if module not in table:
                faults.append(f"{module} has no row")
                continue
            for imported in sorted(graph.find_modules_directly_imported_by(importer)):
                name = imported.removeprefix(f"{root}.")
                if name not in free and name not in table[module]:
                    line = graph.get_import_details(importer=importer, imported=imported)[0]["line_number"]
                    faults.append(f"{module} imports {name} (line {line})")
        return ContractCheck(kept=not faults, metadata={"faults": faults})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for fault in check.metadata["faults"]:
            output.print_error(fault)
