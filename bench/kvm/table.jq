# SPDX-License-Identifier: BSD-2-Clause
# build/bench/kvm.json as a table in Markdown. An asterisk marks the lowest figure of a row.

def number:
  if . == null then "-" elif . >= 100 then (round | tostring)
  elif . >= 1 then (. * 100 | round / 100 | tostring) else (. * 10000 | round / 10000 | tostring) end;
def times: if . == null then "-" else (. * 100 | round / 100 | tostring) end;
def figure($least): if . == null then "-" else number + (if . == $least then " *" else "" end) end;

def table($rows; $what):
  "", $what, "",
  "| operation | umbra | KVM npt=0 | KVM npt=1 | umbra ÷ npt=0 | umbra ÷ npt=1 | aim |",
  "|---|---|---|---|---|---|---|",
  ($rows[]
    | ([.umbra, .kvm_npt0, .kvm_npt1] | map(values) | min) as $least
    | [.what, (.umbra | figure($least)), (.kvm_npt0 | figure($least)), (.kvm_npt1 | figure($least)),
       (.of_npt0 | times), (.of_npt1 | times),
       (if .meets == null then "-" elif .meets then "met" else "missed" end)]
    | "| " + join(" | ") + " |");

def some($rows; $what): if $rows == [] then empty else table($rows; $what) end;
def of($unit; $memory): [.rows[] | select(.unit == $unit and (.kind == "memory") == $memory)];

((["insns", "Instructions"], ["us", "Microseconds"]) as [$unit, $name]
  | some(of($unit; false); $name + " an operation (host rows: an spte):"),
    some(of($unit; true); $name + ", what a host does to memory:")),
"",
([.rows[] | select(.meets)] | length | tostring) + " rows meet their aim, "
  + ([.rows[] | select(.meets == false)] | length | tostring) + " miss it"
