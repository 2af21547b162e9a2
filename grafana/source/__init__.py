"""What the dashboards are made of. `python -m grafana.source` writes grafana/dashboards/*.json.

queries     PromQL: a metric with the variables that it knows, rates, quantiles, exact sums
panels      one function for each kind of panel, with the same looks everywhere
layout      panels in lines, lines under titles, a dashboard of them
usage, service, upstreams, images     the four dashboards, each top to bottom as it is seen
"""
