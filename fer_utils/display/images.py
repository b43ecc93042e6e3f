"""Tables on images: what a data set is, and what is done to it before training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

from IPython.display import HTML, Markdown

from fer_utils.display.cells import note, table
from fer_utils.manifests import DatasetManifest

MODES = {"L": "grey", "RGB": "colour"}  # Pillow's names for them


def data_card(manifest: DatasetManifest) -> HTML:
    """What the manifest says of a data set."""
    parts = ", ".join(
        f"{name} {part.count:,}" + (f" ({part.source})" if part.source else "")
        for name, part in manifest.splits.items()
        if part.count
    )
    shown = "yes" if manifest.faces.shown else "no"
    people = ", ".join(manifest.faces.subjects)
    lines = {
        "Name": manifest.title,
        "About": manifest.about,
        "Images": f"{manifest.image.height}x{manifest.image.width}, {MODES[manifest.image.mode]}"
        + (f"; {parts}" if parts else ""),
        "Expressions": ", ".join(manifest.class_names),
        "Groups": "; ".join(
            f"{name}: {group.derived}" + (f" ({group.count})" if group.count else "")
            for name, group in manifest.groups.items()
        )
        or "none",
        "Licence": manifest.licence.name,
        "May faces be shown?": f"{shown}. {manifest.faces.wording}"
        + (f" They are {people}." if people else ""),
        "How to get it": manifest.obtain,
        "Notes": " ".join(manifest.notes),
    }
    rows = "".join(
        f'<tr><th scope="row" style="text-align: left; white-space: nowrap">{name}</th>'
        f'<td style="text-align: left">{escape(told)}</td></tr>'
        for name, told in lines.items()
        if told
    )
    return HTML(f'<table class="dataframe"><tbody>{rows}</tbody></table>')


def dropped(counts: dict[str, dict[str, dict[str, dict[str, int]]]]) -> HTML | Markdown:
    """The share of the images of each expression and part that no face was found in.

    Args:
        counts: of `detection.dropped`, by detector.
    """
    if not counts:
        return note("No count is recorded.")
    parts = {
        f"{part}, {detector}": classes
        for detector, told in counts.items()
        for part, classes in told.items()
    }
    names = list(next(iter(parts.values())))
    rows = []
    for name in [*names, "all"]:
        row = {"Expression": name}
        for part, classes in parts.items():
            chosen = classes.values() if name == "all" else [classes[name]]
            images, lost = (sum(found[key] for found in chosen) for key in ("images", "dropped"))
            share = f"{100 * lost / max(images, 1):.1f} %".replace(" ", "\N{NO-BREAK SPACE}")
            row[part] = f"{share} of {images:,}"
        rows.append(row)
    return table(rows, "Images in which no face was found, and which are dropped")


def balanced(counts: dict[str, dict[str, dict[str, int]]], printed: dict | None = None) -> HTML:
    """Images of each expression before and after balancing, and how many of them were made.

    Args:
        counts: of `balancing.counts`, by label.
        printed: expression -> what a paper prints, before and after; None for nothing.
    """
    names = list(next(iter(counts.values()), printed))
    rows = []
    for name in names:
        row = {"Expression": name}
        if printed:
            row |= {"Printed, before": printed[name][0], "Printed, after": printed[name][1]}
        for label, told in counts.items():
            row |= {f"{label}, {key}": told[name][key] for key in ("before", "after", "made")}
        rows.append(row)
    return table(rows)


def shared_with_train(prepared: Iterable[Mapping]) -> Markdown:
    """How many test images were made from an original that a training image was made from, too.

    Args:
        prepared: of `preparation.told`; the first that was balanced before the split counts.
    """
    found = [told["share_with_train"]["test"] for told in prepared if told["share_with_train"]]
    if not found:
        return note("No count is recorded.")
    return Markdown(
        f"{100 * found[0]:.1f} % of the test images of the wrong protocol share an original with "
        "a training image."
    )


def not_found(dropped: Mapping[str, Mapping[str, Mapping[str, int]]] | None) -> str:
    """In how many of all images no face was found; empty where nothing was counted.

    Args:
        dropped: of `detection.dropped`.
    """
    if not dropped:
        return ""
    rows = [row for part in dropped.values() for row in part.values()]
    images, lost = (sum(row[key] for row in rows) for key in ("images", "dropped"))
    return f"no face in {lost:,} of {images:,} images ({100 * lost / images:.1f} %)"
