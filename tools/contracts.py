"""import-linter contracts of our own: which packages a room may import, and that nothing goes round in circles."""

from __future__ import annotations

import graphlib
import sys
from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output

__all__ = ["Cycles", "Packages"]


class _Faults(Contract):
    """One of which each fault is a line."""

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        faults = self.faults(graph, self.session_options["root_packages"][0])
        return ContractCheck(kept=not faults, metadata={"faults": faults})

    def faults(self, graph: ImportGraph, root: str) -> list[str]:
        raise NotImplementedError

    def render_broken_contract(self, check: ContractCheck) -> None:
        for fault in check.metadata["faults"]:
            output.print_error(fault)


class Packages(_Faults):
    """``rows``: ``ROOM: packages``, of a room or module beside; ``guarded``: standard library that needs naming."""

    type_name = "packages"

    rows = fields.ListField(subfield=fields.StringField())
    guarded = fields.ListField(subfield=fields.StringField())

    def faults(self, graph: ImportGraph, root: str) -> list[str]:
        rows: Any = self.rows  # a descriptor's value, which import-linter leaves untyped
        guarded: Any = self.guarded
        table = {room: set(names.split()) for room, _, names in (row.partition(":") for row in rows)}
        free = (set(sys.stdlib_module_names) | {root}) - set(guarded)
        used: set[tuple[str, str]] = set()
        faults = []
        for importer in sorted(graph.find_descendants(root)):
            room = importer.split(".")[1]
            for imported in sorted(graph.find_modules_directly_imported_by(importer)):
                name = imported.partition(".")[0]
                used.add((room, name))
                if name not in free and name not in table.get(room, ()):
                    line = graph.get_import_details(importer=importer, imported=imported)[0]["line_number"]
                    faults.append(f"{importer} imports {name} (line {line})")
        unused = [
            f"{room} does not import {name}" for room in table for name in table[room] if (room, name) not in used
        ]
        return faults + unused


class Cycles(_Faults):
    """Modules can be put in an order in which each imports only those before it."""

    type_name = "cycles"

    def faults(self, graph: ImportGraph, root: str) -> list[str]:
        modules = {root, *graph.find_descendants(root)}
        order = graphlib.TopologicalSorter(
            {module: graph.find_modules_directly_imported_by(module) & modules for module in modules}
        )
        try:
            order.prepare()
        except graphlib.CycleError as error:
            return [" imports ".join(reversed(error.args[1]))]
        return []
