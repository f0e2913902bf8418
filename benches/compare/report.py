"""The result as a table and as a chart."""

from html import escape

GB = 1e9
SIDES = ("nabu-store", "nginx")
LIMIT_NAMES = {
    "disk_read": "sequential direct read (fio)",
    "disk_write": "sequential direct write with sync (fio)",
    "loopback": "one TCP stream over the loopback (iperf3)",
    "sha256_core": "SHA-256 of one core (openssl speed)",
}
BAR_WIDTH = 420
LABEL_WIDTH = 430
ROW_HEIGHT = 44
COLOURS = {"nabu-store": "#2563a8", "nginx": "#9aa3ad"}


def number(value, unit):
    if value is None:
        return "–"
    if unit == "requests/s":
        return f"{value:,.0f}"
    return f"{value:.2f}" if value < 100 else f"{value:,.0f}"


def ratio_text(row):
    if row["ratio"] is None:
        return "–"
    return f"{row['ratio']:.2f}"


def of_limit(row):
    """The share of the limit, of rows in GB/s that have one."""
    ours = row["median"]["nabu-store"]
    if not row["limit"] or ours is None:
        return "–"
    return f"{ours * GB / row['limit']:.2f}"


def summary(row):
    sides = ", ".join(f"{side} {number(row['median'][side], row['unit'])}" for side in SIDES)
    return f"{sides} {row['unit']}, ratio {ratio_text(row)}"


def middle(row, side, key):
    """The median of a detail."""
    values = sorted(details[key] for details in row["details"][side] if details.get(key) is not None)
    return values[len(values) // 2] if values else None


def cpu_text(row, side):
    per_gb, per_1000 = middle(row, side, "server_cpu_s_per_gb"), middle(row, side, "server_cpu_s_per_1000_requests")
    if row["unit"] == "GB/s" and per_gb is not None:
        return f"{per_gb:.3f} s/GB"
    if row["unit"] == "requests/s" and per_1000 is not None:
        return f"{per_1000 * 1000:.1f} us/request"
    return "–"


def markdown(document):
    about = document["machine"]
    lines = [
        "# nabu-store beside nginx",
        "",
        f"{about['date']}, {about['cpus']} CPUs ({about['cpu_model']}), {about['memory_gib']} GiB, Linux {about['kernel']}, "
        f"{about['file_system']}, TCP with {about['congestion_control']}; {about['nabu_store']}, {about['nginx'] or 'no nginx'}; load {about['load_before']:.2f} before and "
        f"{about['load_after']:.2f} after {about['minutes']} minutes. Medians of {max((len(row['nabu-store']) for row in document['rows']), default=0)} "
        f"runs that alternate between the two; the client's hot GETs are {about['bodies']}. A ratio is nabu-store / nginx.",
        "",
        "| row | unit | nabu-store | nginx | ratio | of the limit | CPU of nabu-store | CPU of nginx | p99 of nabu-store | p99 of nginx |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in document["rows"]:
        p99 = [middle(row, side, "p99_us") for side in SIDES]
        cells = [
            row["title"], row["unit"] + (", less is better" if row["lower_is_better"] else ""),
            *(number(row["median"][side], row["unit"]) for side in SIDES), ratio_text(row), of_limit(row),
            *(cpu_text(row, side) for side in SIDES), *("–" if value is None else f"{value / 1000:.2f} ms" for value in p99),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| limit | GB/s |", "| --- | ---: |"]
    lines += [f"| {LIMIT_NAMES[name]} | {value / GB:.2f} |" for name, value in document["limits"].items() if value]
    remarks = remarks_of(document)
    if remarks:
        lines += ["", *(f"- {remark}" for remark in remarks)]
    return "\n".join(lines) + "\n"


def remarks_of(document):
    remarks = []
    for row in document["rows"]:
        for side, reason in row["skipped"].items():
            remarks.append(f"{row['title']}: {side} skipped, {reason}.")
        for side in SIDES:
            read = middle(row, side, "disk_read_per_blob_byte")
            if read is not None:
                remarks.append(f"{row['title']}: {side} read {read:.2f} bytes from the disk for each byte of the blob.")
            busy = middle(row, side, "client_busy")
            if busy is not None and busy > 0.9 and row["unit"] in ("GB/s", "requests/s"):
                remarks.append(f"{row['title']}, {side}: the client was busy {busy:.0%} of the time, so the server may be faster.")
    for note in dict.fromkeys(row["note"] for row in document["rows"] if row["note"]):
        remarks.append(note[0].upper() + note[1:] + ".")
    if document["machine"]["congestion_control"] == "bbr":
        remarks.append("BBR paces what is sent, over the loopback too: large GETs measure the pacing. benches/compare.sh says how to run without it.")
    medians = {row["name"]: row["median"] for row in document["rows"]}
    if "cores-1" in medians and "cores-2" in medians:
        for side in SIDES:
            one, two = medians["cores-1"][side], medians["cores-2"][side]
            if one and two:
                remarks.append(f"From one core to two, {side} goes from {one:,.0f} to {two:,.0f} requests/s (× {two / one:.2f}).")
    return remarks


def svg(document):
    """Two bars a row, each as long as its share of the larger one."""
    rows = [row for row in document["rows"] if any(row["median"].values())]
    width, height = LABEL_WIDTH + BAR_WIDTH + 150, 70 + ROW_HEIGHT * len(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="12" y="24" font-size="16" font-weight="bold">nabu-store beside nginx</text>',
        f'<text x="12" y="44" fill="#555">{escape(document["machine"]["date"])}, {document["machine"]["cpus"]} CPUs, '
        f'Linux {escape(document["machine"]["kernel"])}; medians</text>',
    ]
    for position, side in enumerate(SIDES):
        x = LABEL_WIDTH + position * 120
        parts.append(f'<rect x="{x}" y="14" width="12" height="12" fill="{COLOURS[side]}"/><text x="{x + 18}" y="25">{side}</text>')
    for position, row in enumerate(rows):
        top = 60 + position * ROW_HEIGHT
        better = " (less is better)" if row["lower_is_better"] else ""
        parts.append(f'<text x="12" y="{top + 15}">{escape(row["title"])}</text>')
        parts.append(f'<text x="12" y="{top + 30}" fill="#777" font-size="11">{escape(row["unit"] + better)}, ratio {ratio_text(row)}</text>')
        largest = max(value for value in row["median"].values() if value is not None) or 1
        for index, side in enumerate(SIDES):
            value = row["median"][side]
            length = BAR_WIDTH * (value or 0) / largest
            y = top + 4 + index * 16
            parts.append(f'<rect x="{LABEL_WIDTH}" y="{y}" width="{length:.1f}" height="13" fill="{COLOURS[side]}"/>')
            parts.append(f'<text x="{LABEL_WIDTH + length + 6:.1f}" y="{y + 11}" font-size="11">{number(value, row["unit"])}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
