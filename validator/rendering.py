"""How taps and entries are shown: objects for scripts, lines for people."""

import datetime as dt
from typing import Any

from validator.entry import Entry
from validator.lists.gate_rules import HOUR_S, StalePolicies
from validator.lists.installed import InstalledLists
from validator.lists.manifest import ListKind
from validator.station import TapReport


def tap_event(report: TapReport) -> dict[str, Any]:
    """Describe a tap for scripts."""
    tap = report.tap
    return {
        "event": "tap",
        "seq": report.seq,
        "at": moment(tap.at.wall_ms),
        "signal": report.signal.value,
        "outcome": tap.outcome.name,
        "reason": tap.reason.name,
        "answer": report.answer,
        "graced": tap.graced,
        "ratified": report.ratified,
        "credential_id": None if tap.credential_id is None else tap.credential_id.hex(),
        "profile": tap.profile,
        "technology": report.technology.value,
        "assurance": None if tap.assurance is None else tap.assurance.name,
        "cached": tap.cached,
        "product_id": tap.product_id,
        "rides": tap.rides,
        "amount": tap.amount,
        "apdus": report.traffic.apdus,
        "bytes_out": report.traffic.bytes_out,
        "bytes_in": report.traffic.bytes_in,
        "total_ms": round(report.total_ms, 3),
        "card_ms": round(report.card_ms, 3),
        "own_ms": round(report.own_ms, 3),
        "stages_ms": {stage: round(spent, 3) for stage, spent in report.stages_ms.items()},
    }


def entry_event(link: Entry) -> dict[str, Any]:
    """Describe a journal entry for scripts."""
    tap = link.tap
    return {
        "event": "entry",
        "device": link.device,
        "epoch": link.epoch,
        "seq": link.seq,
        "at": moment(tap.at.wall_ms),
        "clock": tap.at.confidence.name,
        "place": tap.place,
        "gate": tap.gate,
        "outcome": tap.outcome.name,
        "reason": tap.reason.name,
        "graced": tap.graced,
        "credential_id": None if tap.credential_id is None else tap.credential_id.hex(),
        "product_id": tap.product_id,
        "rides": tap.rides,
        "amount": tap.amount,
        "recovers": tap.recovers,
        "lists": {
            "trust": tap.versions.trust,
            "deny": tap.versions.deny,
            "tickets": tap.versions.tickets,
            "enrolled": tap.versions.enrolled,
            "status": tap.versions.status,
        },
    }


def entry_line(link: Entry) -> str:
    """Describe a journal entry in one line for people."""
    tap = link.tap
    who = "-" if tap.credential_id is None else tap.credential_id.hex()[:8]
    took = f" {tap.rides} ride" if tap.rides else f" {tap.amount / 100:.2f}" if tap.amount else ""
    graced = " (graced)" if tap.graced else ""
    return f"{link.seq:>8} {moment(tap.at.wall_ms)} {tap.outcome.name:<5} {tap.reason.name}{graced} {who}{took}"


def moment(wall_ms: int) -> str:
    """Return a time as ISO 8601 in UTC, to the millisecond."""
    return dt.datetime.fromtimestamp(wall_ms / 1000, dt.UTC).isoformat(timespec="milliseconds")


def stale_facts(lists: InstalledLists, kind: ListKind, own: StalePolicies, file: str) -> dict[str, Any]:
    """Describe what a list is worth past its date, and who says so: the signed configuration or the gate's file."""
    policy, rules = lists.policy(kind, own), lists.rules
    signed = rules is not None and kind in rules.stale
    return {
        "grace_h": None if policy.then == "keep" else policy.grace_s / HOUR_S,
        "value_limit": policy.value_limit,
        "then": policy.then,
        "by": f"config {lists.manifests[ListKind.CONFIG].version}" if signed else file,
    }


def stale_words(facts: dict[str, Any]) -> str:
    """Say the same on one line."""
    fares = "any fare" if facts["value_limit"] is None else f"fares up to {facts['value_limit']}"
    end = "kept" if facts["then"] == "keep" else f"{facts['grace_h']:g} h of grace, then refused"
    return f"{end}; {fares} meanwhile; says {facts['by']}"
