"""A report as one page that needs nothing else: no request leaves it, and its script and style are known by hash."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

from kiptail.report.ends import By
from kiptail.report.summary import Report
from kiptail.report.timeline import HEIGHT, WIDTH
from kiptail.report.view import view_of

__all__ = ["as_html"]


def as_html(report: Report, *, by: By) -> str:
    """The page. Whatever a name or a log line holds is text in it."""
    import jinja2  # noqa: PLC0415 - 60 ms that other outputs do without

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    script, style = _part("page.js"), _part("page.css")
    policy = (
        f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)};"
        " base-uri 'none'; form-action 'none'"
    )
    return environment.from_string(_part("page.html")).render(
        view=view_of(report, by), script=script, style=style, policy=policy, width=WIDTH, height=HEIGHT
    )


def _part(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _source(text: str) -> str:
    """What allows this text in a Content-Security-Policy, and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
