"""Reads checkov's JSON and prints a line "check kind/name # what" for each finding; exits with 1 if there is none."""

import json
import sys

report = json.load(sys.stdin)
lines = set()
for finding in report["results"]["failed_checks"]:
    kind, _, name = finding["resource"].split(".", 2)
    lines.add(f"{finding['check_id']} {kind}/{name} # {finding['check_name']}")
print(*sorted(lines), sep="\n")
sys.exit(not lines)
