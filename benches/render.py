"""Renders the section templates with Jinja2, for benches/render.rs: the same templates, the same values, and the same text.

render.py TEMPLATES TEMPLATE VALUES TEXT: VALUES is JSON, TEXT what the result must be.
"""

import json
import sys
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

SECTIONS = {
    "VRFs": "vrfs.j2",
    "Neighbors": "neighbors.j2",
    "NeighborsV4": "neighbors_v4.j2",
    "NeighborsV6": "neighbors_v6.j2",
    "BGP": "bgp.j2",
    "PrefixLists": "prefix_lists.j2",
    "RouteMaps": "route_maps.j2",
}


def main() -> None:
    templates, template, values, text = map(Path, sys.argv[1:])
    environment = Environment(loader=FileSystemLoader(templates), undefined=StrictUndefined, keep_trailing_newline=True)
    variables = json.loads(values.read_text())
    rendered = template.read_text()
    for hint, name in SECTIONS.items():
        section = environment.get_template(name).render(variables)
        rendered = rendered.replace(f"#++{{{{.{hint}}}}}\n", section)
    if rendered != text.read_text():
        sys.exit("Jinja2 renders another text")


main()
