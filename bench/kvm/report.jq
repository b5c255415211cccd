# SPDX-License-Identifier: BSD-2-Clause
# From the log of scripts/bench-kvm (jq -R -n -f) to build/bench/kvm.json. A figure is instructions
# or microseconds an operation; host rows are the median of their rounds, an spte or a page.

def labels: [
  ["cpu", "CPU loop, 1000 turns"], ["cpuid", "CPUID"], ["getppid", "getppid"],
  ["pipe", "pipe ping-pong"], ["fork", "fork + exit + wait"], ["exec", "fork + exec + wait"],
  ["mmap", "mmap, touch, munmap, a page"], ["first_touch", "first touch, a page"],
  ["refault", "touch again after MADV_DONTNEED, a page"], ["mprotect", "mprotect twice, a page"],
  ["shared", "children touch a shared region, a page"], ["shared_exit", "exit of such a child"],
  ["boot", "boot to init"],
  ["drop_range", "host drops a range"], ["drop_page", "host drops page by page"],
  ["protect", "host write-protects"], ["remap", "host moves page by page"],
  ["slot_renew", "host deletes a slot, adds it again"]];
def host_ops: ["drop_range", "drop_page", "protect", "remap", "slot_renew"];

# What a host does to memory, and how the guest fares behind it. These have no aim.
def memory_labels: [
  ["invalidate", "host changes a range, contents stay: an spte"],
  ["invalidate_page", "next access: a page"],
  ["invalidate_spte", "next access by each further alias: an spte"],
  ["warm", "access to another slot: an spte"],
  ["warm_renewed", "the same after a slot was deleted and added: an spte"],
  ["age", "age scan, pages in use: an spte"],
  ["log_start", "dirty log on: an spte"],
  ["log_write", "first write while it is on: a page"],
  ["log_collect", "log collected: a dirty page"],
  ["log_words", "the same, 64 pages a call: a dirty page"],
  ["log_clean", "log collected: a clean page"],
  ["merge", "equal pages merged: a page"],
  ["merge_break", "write to a merged page: a page"],
  ["swap_out", "swapped out: a page"],
  ["swap_in", "access to what was swapped out: a page"],
  ["collapse", "collapsed to frames side by side: a page"]];

def median: sort | .[length / 2 | floor];
def round_to($digits): . * pow(10; $digits) | round / pow(10; $digits);

# One line more of the log.
def take($line):
  ($line | split(" ")) as $w
  | if $w[0] == "clock" then .unit = $w[1] | .hz = ($w[2] // "0" | tonumber)
    elif $w[0] == "system" then .system = $w[1]
    elif $w[0] == "row" then .figures += [[.unit, $w[1], .system, ($w[2] | tonumber), .hz]]
    elif $w[0] == "exits" then
      .exits[.unit][$w[1]] = ([["pf", "cr", "io", "msr", "intr", "invlpg", "other"], ($w[2:9] | map(tonumber))]
        | transpose | map({key: .[0], value: .[1]}) | from_entries)
    elif $w[0] == "host" and $w[3] == "0" then . # nothing was there to be done
    elif $w[0] == "host" then
      .figures += [[.unit, $w[1], .system, ($w[2] | tonumber) / ($w[3] | tonumber), .hz]]
    elif $w[0] == "info" and ($w[1] | IN("progress", "error") | not) then
      if $w[1] == "cpu" and .system then .
      else .environment[if $w[1] == "kernel" then "guest_kernel" else $w[1] end] = ($w[2:] | join(" ")) end
    else . end;

# The median of a system's figures for a row, or null.
def figure($figures; $unit; $op; $system):
  [$figures[] | select(.[0] == $unit and .[1] == $op and .[2] == $system)
    | if $unit == "us" then .[3] * 1e6 / .[4] else .[3] end]
  | if length == 0 then null else median | round_to(if $unit == "us" then 4 else 1 end) end;

def ratio($a; $b): if $a == null or $b == null or $b == 0 then null else $a / $b | round_to(3) end;

# The aim. Guest rows: below 1.5 of nested paging, and at most half of KVM's shadow paging unless that
# is within a tenth of nested paging itself: then there is nothing to halve. Host rows: at most a
# quarter of KVM's shadow paging.
def meets($host; $umbra; $npt0; $npt1):
  if $umbra == null or $npt0 == null then null
  elif $host then $umbra <= $npt0 / 4
  elif $npt1 == null then null
  else $umbra < 1.5 * $npt1 and ($umbra <= $npt0 / 2 or $npt0 < 1.1 * $npt1) end;

reduce inputs as $line ({environment: {}, exits: {}, figures: []}; take($line))
| . as $all
| {
    environment,
    exits,
    rows: [("insns", "us") as $unit | (labels + memory_labels)[] as [$op, $text]
      | ($all | figure(.figures; $unit; $op; "umbra")) as $umbra
      | ($all | figure(.figures; $unit; $op; "kvm_npt0")) as $npt0
      | ($all | figure(.figures; $unit; $op; "kvm_npt1")) as $npt1
      | select($umbra != null or $npt0 != null or $npt1 != null)
      | (host_ops | index($op) != null) as $host
      | (if $host then "host" elif any(memory_labels[]; .[0] == $op) then "memory" else "guest" end) as $kind
      | {op: $op, what: $text, unit: $unit, kind: $kind,
         umbra: $umbra, kvm_npt0: $npt0, kvm_npt1: $npt1,
         of_npt0: ratio($umbra; $npt0), of_npt1: ratio($umbra; $npt1)}
      | .meets = if $kind == "memory" then null else meets($host; $umbra; $npt0; $npt1) end]
  }
