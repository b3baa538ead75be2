"""Renders a chart for each set of values of a JSON list on standard input, as `helm template` would; prints a JSON list."""

import json
import sys

import helm_python

chart = helm_python.Chart.load(sys.argv[1])
crds = {crd["name"]: crd["data"] for crd in chart.crds}


def rendered(values):
    try:
        chart.validate_schema(values)
        return {"templates": chart.render(values, name="network-operator", namespace="kube-system")}
    except helm_python.HelmError as error:
        return {"error": str(error)}


lint = helm_python.lint(sys.argv[1], {}, strict=True, namespace="kube-system")
json.dump({"crds": crds, "lint": lint, "rendered": [rendered(values) for values in json.load(sys.stdin)]}, sys.stdout)
