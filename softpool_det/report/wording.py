"""What the report says in words, the same in HTML and in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from softpool_det.report.formatting import MISSING, count, is_number, plain

TASKS = {"bbox": "Boxes", "segm": "Masks"}
# COCO's figures, and what each of them is of.
METRICS = {
    "AP": "IoU 0.50 to 0.95",
    "AP50": "IoU 0.50",
    "AP75": "IoU 0.75",
    "APs": "small, under 32² px",
    "APm": "32² to 96² px",
    "APl": "large, over 96² px",
    "AR": "100 detections an image",
}
# Bolya et al., TIDE, ECCV 2020, section 2.2.
ERRORS = {
    "Cls": ("Class", "found in place, but as another class"),
    "Loc": ("Location", "right class, box or mask too far off"),
    "Both": ("Both", "another class, and too far off"),
    "Dupe": ("Duplicate", "found again, beside a better detection"),
    "Bkg": ("Background", "nothing is there"),
    "Miss": ("Missed", "not found, nor touched by an error above"),
    "FalsePos": ("False pos.", "all false detections together"),
    "FalseNeg": ("False neg.", "all objects not found"),
}


def heading(names: Sequence[str]) -> str:
    """What is compared; the first is the baseline."""
    return f"{joined(names[1:])} against {names[0]}"


def scope(comparison: Mapping[str, Any]) -> str:
    """How much the comparison rests on."""
    seeds = comparison["seeds"]
    parts = [
        f"{count(comparison['images'])} images",
        f"{count(comparison['objects'])} objects",
        plural(len(comparison["categories"]), "class", "classes"),
        "one seed each" if len(seeds) == 1 else f"{len(seeds)} seeds each",
    ]
    return ", ".join(parts)


def seed_note(comparison: Mapping[str, Any]) -> str:
    """Explain what the number of seeds means for the intervals."""
    seeds = comparison["seeds"]
    if len(seeds) == 1:
        return (
            "One run of each: the intervals say how much depends on which images were taken, "
            f"nothing about how much another training run would change. {_noise(comparison)}; a "
            "difference inside that noise is not a finding."
        )
    listed = ", ".join(map(str, seeds))
    note = f"Means over seeds {listed}; the intervals cover the choice of images and of seeds."
    if len(seeds) < 5:
        note += f" {len(seeds)} seeds say little about how much seeds matter."
    return note


def _noise(comparison: Mapping[str, Any]) -> str:
    known = comparison.get("known_spread")
    if not known:
        return (
            "Published COCO runs differ by 0.2 to 0.3 AP from seed to seed, short trainings by "
            "far more"
        )
    spreads = [
        f"{plain(known[task])} AP ({TASKS[task].lower()})" for task in TASKS if task in known
    ]
    return f"Such runs are known to differ by up to {joined(spreads)} between seeds"


def provenance_line(comparison: Mapping[str, Any]) -> str:
    """One line: data, resamples, versions, date, commit; what is not known is left out."""
    parts = [scope(comparison)]
    if comparison.get("resamples"):
        parts.append(f"{count(comparison['resamples'])} bootstrap resamples of images")
    provenance = comparison.get("provenance") or {}
    versions = provenance.get("versions") or {}
    parts += [
        f"{name} {versions[name]}"
        for name in ("torch", "detectron2", "sal-detectron2")
        if name in versions
    ]
    if provenance.get("git_commit"):
        parts.append(f"commit {provenance['git_commit']}")
    if provenance.get("date"):
        parts.append(provenance["date"])
    return "; ".join(parts) + "."


def terms_note(comparison: Mapping[str, Any]) -> str:
    """Explain the table's and the sentences' terms."""
    note = (
        "AP is average precision in percent, mean over classes and over IoU, the overlap of a "
        "detection and its object, from 0.50 to 0.95. AP50 and AP75 are at one IoU; APs, APm and "
        "APl of small, medium and large objects; AR is average recall. P(better) is the "
        "probability that the candidate is ahead, from the same draws as the intervals."
    )
    figures = (
        entry["value"]
        for results in comparison["tasks"].values()
        for arm in results["metrics"].values()
        for entry in arm.values()
    )
    if not all(map(is_number, figures)):
        note += f" {MISSING} means that there is nothing to measure."
    return note


def interval_note(comparison: Mapping[str, Any]) -> str:
    """Which intervals a table shows, and which decide; "" where they are the same."""
    if not any(map(has_simultaneous, comparison["tasks"].values())):
        return ""
    return (
        "The intervals in the table are for each candidate by itself. What is marked, and the "
        f"sentences, rest on simultaneous ones of all {len(comparison['names']) - 1} (Bonferroni)."
    )


def has_simultaneous(results: Mapping[str, Any]) -> bool:
    """Whether a task's differences have simultaneous intervals; those of old files have none."""
    return any("simultaneous_low" in d["metrics"]["AP"] for d in results["differences"])


def power_note(difference: Mapping[str, Any]) -> str:
    """How many seeds would show a difference; "" where it is not known."""
    rows = difference.get("power") or ()
    if not rows:
        return ""
    parts = [f"{seeds_needed(row)} for {row['difference']:g} AP" for row in rows]
    names = f"{difference['candidate']} against {difference['baseline']}"
    return f"Seeds per arm to show a difference with 80 % power, {names}: {', '.join(parts)}."


def seeds_needed(row: Mapping[str, Any]) -> str:
    """One row of a difference's "power"."""
    if row["seeds"] is not None:
        return count(row["seeds"])
    if row["images"] is None:
        return "more than 1,000"
    return f"no number is enough (it would take {count(row['images'])} images)"


def joined(names: Sequence[str]) -> str:
    """Join names: "a", "a and b", "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def plural(number: int, one: str, many: str) -> str:
    """Write a number with its noun, singular or plural."""
    return f"{count(number)} {one if number == 1 else many}"
