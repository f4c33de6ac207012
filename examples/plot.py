#!/usr/bin/env python3
"""Draws what the ablation wrote: plot.py FOLDER

speed-error.png     speedup over full attention against output error, one point for each row of the table
routes-layerN.png   which head of which input went where, router by router, and how far it errs there
"""
import json
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

COLOURS = {
    "FA": "#222222", "SSA token": "#e07b39", "SSA block": "#c0392b", "XA": "#1f77b4", "MoBA": "#8e6bbf",
    "vertical-slash": "#8c6d31", "TriangleMix": "#d46a9f", "FA-SSA": "#2a9d8f", "FA-XA": "#3d5a98", "XA-SSA": "#d4a017",
}
MODES = {"FA": "#1d3557", "XA": "#79a7c9", "SSA": "#f4d58d"}  # where a head may go
LINEAR_BELOW = 0.02  # the error's axis, which shows 0 too
MARKERS = {"": "o", "ratio": "s", "oracle": "*", "MLP": "^"}


def router_kind(row):
    return row["router"].split(" ")[0]


def title(row):
    return " ".join(filter(None, (row["variant"], row["router"], "untrained" if row["untrained"] else "")))


def place_labels(axes, points, texts):
    """Puts each text beside its point, at the nearest of many places where it covers nothing."""
    figure = axes.figure
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    pixels = axes.transData.transform(points)
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in pixels]
    frame = axes.get_window_extent(renderer)
    for (x, y), (point, (text, colour)) in sorted(zip(pixels, zip(points, texts)), key=lambda item: -item[0][1]):
        probe = axes.text(0, 0, text, fontsize=8)
        box = probe.get_window_extent(renderer)
        probe.remove()
        width, height = box.width, box.height
        best = None
        for radius in np.arange(8, 120, 4):
            for angle in np.linspace(0, 2 * np.pi, 24, endpoint=False):
                centre_x = x + np.cos(angle) * (radius + width / 2)
                centre_y = y + np.sin(angle) * (radius + height / 2)
                place = (centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2)
                inside = (place[0] > frame.x0 + 2 and place[2] < frame.x1 - 2
                          and place[1] > frame.y0 + 2 and place[3] < frame.y1 - 2)
                free = all(place[2] < b[0] or place[0] > b[2] or place[3] < b[1] or place[1] > b[3] for b in taken)
                if inside and free:
                    best = place
                    break
            if best:
                break
        if best is None:
            continue
        taken.append(best)
        centre = axes.transData.inverted().transform(((best[0] + best[2]) / 2, (best[1] + best[3]) / 2))
        far = np.hypot((best[0] + best[2]) / 2 - x, (best[1] + best[3]) / 2 - y) > width / 2 + 16
        axes.annotate(text, point, xytext=centre, textcoords="data", fontsize=8, color=colour, ha="center", va="center",
                      path_effects=[withStroke(linewidth=3, foreground="white")],
                      arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.5, "alpha": 0.6} if far else None)


def draw_speed_error(result, folder):
    figure, axes = plt.subplots(figsize=(11, 7), layout="constrained")
    points, texts = [], []
    for row in result["rows"]:
        kind, colour = router_kind(row), COLOURS.get(row["variant"], "#777777")
        hollow = row["untrained"]
        axes.hlines(row["error"], *row["speedup_range"], color=colour, lw=1, alpha=0.4, zorder=2, clip_on=False)
        axes.scatter(row["speedup"], row["error"], s=110 if kind == "oracle" else 55, marker=MARKERS.get(kind, "o"),
                     facecolor="white" if hollow else colour, edgecolor=colour if hollow else "white",
                     linewidth=1.4 if hollow else 0.8, alpha=0.8, zorder=3, clip_on=False)
        points.append((row["speedup"], row["error"]))
        texts.append((title(row), colour))
    axes.axvline(1, color="#bbbbbb", lw=1, ls="--", zorder=1)
    axes.set_yscale("symlog", linthresh=LINEAR_BELOW, linscale=0.6)
    axes.axhspan(-1, LINEAR_BELOW, color="#f6f6f6", zorder=0)
    axes.set_ylim(-0.004, max(0.1, 1.4 * max(row["error"] for row in result["rows"])))
    ticks = [tick for tick in (0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1) if tick < axes.get_ylim()[1]]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    speeds = [speed for row in result["rows"] for speed in row["speedup_range"]]
    margin = 0.08 * (max(speeds) - min(speeds) + 0.1)
    axes.set_xlim(min(speeds) - margin, max(speeds) + margin)
    axes.grid(color="#eeeeee", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("speedup over full attention: median, and range of the repetitions "
                    "(route + select + attend; without the oracle's routing)")
    axes.set_ylabel("output error (relative L2 against full attention, mean over heads)\n"
                    f"log scale, linear below {LINEAR_BELOW} (grey)")
    source, run = result["input"], result["run"]
    axes.set_title(f"{source['model'] or source['file']}: {', '.join(source['inputs'])}, {source['k_len']} keys; "
                   f"{run['backend']}, {run['threads']} threads", fontsize=11, loc="left")
    variants = dict.fromkeys(row["variant"] for row in result["rows"])
    handles = [Line2D([], [], ls="", marker="o", color=COLOURS.get(v, "#777777"), label=v) for v in variants]
    handles += [Line2D([], [], ls="", marker=MARKERS[kind], color="#999999", label=name,
                       markerfacecolor="white" if "untrained" in name else "#999999")
                for kind, name in (("ratio", "ratio router"), ("oracle", "oracle router"),
                                   ("MLP", "MLP router" if run["router"] else "MLP router, untrained"))]
    axes.legend(handles=handles, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    place_labels(axes, points, texts)
    path = folder / "speed-error.png"
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def draw_routes(result, folder, layer_at):
    # Every pair, and its sparse modes alone, which tell the error of every head.
    rows = [row for row in result["rows"] if len(row["parts"]) > 1 or row["parts"][0] in ("SSA", "XA")]
    inputs, heads = result["input"]["inputs"], result["input"]["query_heads"]
    group = heads // result["input"]["kv_heads"]
    names = list(MODES)
    width = max(4.5, 0.45 * heads)
    size = (2.6 + width * len(inputs), 1.9 + 0.32 * len(rows))
    figure, panels = plt.subplots(1, len(inputs), figsize=size, sharey=True, layout="constrained", squeeze=False)
    for b, (axes, name) in enumerate(zip(panels[0], inputs)):
        routes = np.array([[names.index(row["parts"][route]) for route in row["heads"]["routes"][layer_at][b]]
                           for row in rows])
        axes.imshow(routes, aspect="auto", cmap=ListedColormap(list(MODES.values())), vmin=-0.5, vmax=len(names) - 0.5)
        for r, row in enumerate(rows):
            for h in range(heads) if heads <= 16 else ():
                error = row["heads"]["errors"][layer_at][b][h]
                if error > 0:
                    text = f"{error:.2f}".lstrip("0") if error < 0.995 else f"{error:.1f}"
                    axes.text(h, r, text, ha="center", va="center", fontsize=7, color="#333333")
        for r in range(1, len(rows)):
            new = rows[r]["variant"] != rows[r - 1]["variant"]
            axes.axhline(r - 0.5, color="white", lw=4 if new else 0.8)
        for h in range(1, heads):
            axes.axvline(h - 0.5, color="white", lw=3 if h % group == 0 else 0.6)
        axes.set_xticks(range(heads) if heads <= 16 else range(0, heads, group))
        axes.set_yticks(range(len(rows)), [title(row) for row in rows], fontsize=9)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("query head (gaps part the KV heads)")
        axes.set_title(name, fontsize=11)
    figure.suptitle(f"Layer {result['input']['layers'][layer_at]}: which head went where"
                    + (", and its error" if heads <= 16 else ""), fontsize=12)
    labels = {"FA": "full", "XA": "antidiagonal", "SSA": "streaming"}
    panels[0][-1].legend(handles=[Patch(color=colour, label=labels[name]) for name, colour in MODES.items()],
                         loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=9)
    path = folder / f"routes-layer{result['input']['layers'][layer_at]}.png"
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: plot.py FOLDER, where ablation.json lies")
    folder = pathlib.Path(sys.argv[1])
    try:
        result = json.loads((folder / "ablation.json").read_text())
    except (OSError, ValueError) as problem:
        sys.exit(f"plot.py: {problem}")
    print(draw_speed_error(result, folder))
    for layer_at in range(len(result["input"]["layers"])):
        print(draw_routes(result, folder, layer_at))


if __name__ == "__main__":
    main()
