// Draws the curves from the data embedded in the page, and sorts and copies tables. Needs only Plotly.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const bar = document.getElementById("bar");
  const container = document.getElementById("panels");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const coarse = matchMedia("(pointer: coarse)").matches;
  const hidden = new Set(data.hidden); // indices of styles
  const NARROW_SPACE = "\u202f"; // between every three digits

  const selected = (name, fallback) => {
    const control = bar.elements[name];
    return control ? control.value : fallback;
  };
  const view = () => ({
    dataset: selected("dataset", "all"),
    seeds: selected("seeds", "mean"),
    phase: selected("phase", "both"),
    unit: selected("unit", "return"),
    share: selected("axis", "samples") === "share",
  });
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  // Plotly interprets some HTML in texts; escaped, names are shown literally.
  const escapeHtml = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const extent = (values) => [
    values.reduce((a, b) => Math.min(a, b), Infinity),
    values.reduce((a, b) => Math.max(a, b), -Infinity),
  ];
  const withAlpha = (colour, alpha) => {
    const [r, g, b] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    return `rgba(${r},${g},${b},${alpha})`;
  };

  // --- Statistics over seeds ---

  // The index of the metric that is shown instead of returns or scores; null for these.
  const metricOf = (unit) => (unit.startsWith("metric-") ? Number(unit.slice("metric-".length)) : null);

  // The visible points of one run, in order: [n, value]. The last offline point is also the first online point.
  // Metrics lack values at points without updates: these are left out.
  function points([seed, grid, online, returns, metrics], phase, unit) {
    const metric = metricOf(unit);
    if (metric !== null) {
      const values = metrics[metric] || [];
      const first = phase === "online" ? online : 0;
      const last = phase === "offline" ? online : values.length;
      return values
        .map((value, i) => [data.grids[grid][i], value])
        .slice(first, last)
        .filter(([, value]) => value !== null);
    }
    const all = data.grids[grid].map((n, i) => [n, returns[i]]);
    if (phase === "offline") return all.slice(0, online);
    if (phase === "online") return online < all.length ? all.slice(Math.max(0, online - 1)) : [];
    return all;
  }

  // Mean and range over runs at every n: {n, mean, low, high, seeds, of}.
  function summary(runs, phase, unit, scale) {
    const at = new Map();
    for (const run of runs) {
      for (const [n, value] of points(run, phase, unit)) {
        if (!at.has(n)) at.set(n, []);
        if (value !== null) at.get(n).push(scale(value));
      }
    }
    return [...at.keys()]
      .sort((a, b) => a - b)
      .map((n) => {
        const values = at.get(n);
        const mean = values.length ? values.reduce((a, b) => a + b, 0) / values.length : null;
        return {
          n,
          mean,
          low: Math.min(...values),
          high: Math.max(...values),
          seeds: values.length,
          of: runs.length,
        };
      });
  }

  // Sequences of adjacent points that satisfy a condition.
  function segmentsWhere(curve, condition) {
    const found = [];
    let open = null;
    for (const point of curve) {
      if (!condition(point)) open = null;
      else if (open) open.push(point);
      else found.push((open = [point]));
    }
    return found;
  }

  // --- One panel ---

  function traces(line, shown, scales) {
    const style = data.styles[line.style];
    const colour = dark.matches ? style.dark : style.colour;
    const runs = line.runs.filter(
      (run) => ["mean", "each"].includes(shown.seeds) || String(run[0]) === shown.seeds,
    );
    const curve = summary(runs, shown.phase, shown.unit, scales.scale);
    if (!curve.length) return [];
    const isComplete = (point) => point.seeds === point.of;
    const single = curve.filter(isComplete).length === 1;
    const describe = (point) => {
      const range = point.seeds > 1 ? ` (${scales.number(point.low)} to ${scales.number(point.high)})` : "";
      const seeds = isComplete(point) ? "" : `, ${point.seeds} of ${point.of} seeds`;
      return `${escapeHtml(style.label)}  <b>${scales.number(point.mean)}</b>${range}${seeds}`;
    };
    const common = { type: "scatter", mode: "lines", name: style.label };
    const stroke = {
      color: colour,
      width: 2,
      dash: style.dash ? style.dash.replace(/,/g, "px,") + "px" : "solid",
    };
    const found = [];

    const ring = { x: [], y: [] };
    for (const part of segmentsWhere(curve, (point) => isComplete(point) && point.of > 1)) {
      const back = [...part].reverse();
      ring.x.push(...part.map((p) => scales.x(p.n)), ...back.map((p) => scales.x(p.n)), null);
      ring.y.push(...part.map((p) => p.high), ...back.map((p) => p.low), null);
    }
    if (ring.x.length && !single) {
      found.push({
        ...common,
        ...ring,
        fill: "toself",
        fillcolor: withAlpha(colour, 0.16),
        line: { width: 0 },
        hoverinfo: "skip",
        meta: "band",
      });
    }
    if (shown.seeds === "each") {
      const thin = { x: [], y: [] };
      for (const run of runs) {
        for (const [n, value] of points(run, shown.phase, shown.unit)) {
          thin.x.push(scales.x(n));
          thin.y.push(value === null ? null : scales.scale(value));
        }
        thin.x.push(null);
        thin.y.push(null);
      }
      found.push({
        ...common,
        ...thin,
        line: { ...stroke, width: 0.8 },
        opacity: 0.55,
        hoverinfo: "skip",
        meta: "seeds",
      });
    }
    const hover = {
      text: curve.map((p) => (p.mean === null ? "" : describe(p))),
      hovertemplate: "%{text}<extra></extra>",
    };
    const complete = curve.every(isComplete);
    if (!complete) {
      found.push({
        ...common,
        ...hover,
        x: curve.map((p) => scales.x(p.n)),
        y: curve.map((p) => p.mean),
        line: { ...stroke, width: 1.2, dash: "dot" },
        meta: "part",
      });
    }
    const distance = (p, end) => Math.abs(p[end] - p.mean);
    found.push({
      ...common,
      mode: single ? "lines+markers" : "lines",
      x: curve.map((p) => scales.x(p.n)),
      y: curve.map((p) => (isComplete(p) ? p.mean : null)),
      ...(complete ? hover : { hoverinfo: "skip" }),
      line: stroke,
      marker: { color: colour, size: 7 },
      error_y:
        single && curve[0].of > 1
          ? {
              type: "data",
              symmetric: false,
              array: curve.map((p) => distance(p, "high")),
              arrayminus: curve.map((p) => distance(p, "low")),
              thickness: 1.5,
              width: 0,
            }
          : undefined,
      meta: "mean",
    });
    return found;
  }

  function draw(panel) {
    const shown = view();
    const dataset = data.datasets[panel.number];
    const lines = data.lines.filter((line) => line.dataset === panel.number);
    const scored = shown.unit === "score" && dataset.reference !== null;
    const share = shown.share && dataset.transitions > 0;
    const one = container.classList.contains("one");
    const runs = lines.flatMap((line) => line.runs);
    const [lowest, highest] = extent(runs.flatMap((run) => points(run, shown.phase, shown.unit).map(([, value]) => value).filter((v) => v !== null)));
    const spread = highest > lowest ? highest - lowest : 1;
    const decimals = scored ? 1 : Math.min(6, Math.max(0, Math.ceil(3 - Math.log10(spread))));
    const [minimum, maximum] = dataset.reference || [];
    const scales = {
      scale: (value) => (scored ? (100 * (value - minimum)) / (maximum - minimum) : value),
      x: (n) => (share ? n / dataset.transitions : n),
      number: (value) => value.toFixed(decimals).replace("-", "\u2212"),
    };
    const seen = runs.map((run) => points(run, shown.phase, shown.unit).map(([n]) => n));
    let range = extent(seen.flat());
    if (range[0] > range[1]) range = [0, 1]; // no points in this phase
    if (range[0] === range[1]) range = [range[0] * 0.9, range[1] * 1.1 + 1];
    // Pixels from a point within which hovering shows it: large enough that some point is always within reach.
    const gaps = seen.flatMap((ns) => ns.slice(1).map((n, i) => n - ns[i]));
    const widest = extent([0, ...gaps])[1] / (range[1] - range[0]);
    const reach = Math.min(80, Math.max(20, (widest * panel.plot.clientWidth) / 2 + 2));
    const [ink, quiet, rule, paper] = ["--ink", "--quiet", "--rule", "--raised"].map(css);

    const drawn = [];
    const metric = metricOf(shown.unit);
    if (dataset.mean !== null && metric === null) {
      const mean = scales.scale(dataset.mean);
      drawn.push({
        type: "scatter",
        mode: "lines",
        x: range.map(scales.x),
        y: [mean, mean],
        line: { color: quiet, width: 1.2, dash: "6px,4px" },
        hoverinfo: "skip",
        meta: "data",
      });
    }
    for (const line of lines) if (!hidden.has(line.style)) drawn.push(...traces(line, shown, scales));

    let right = 10; // pixels to the right of the axes
    const shapes = [];
    const annotations = [];
    const verticalLine = (n, dash) =>
      shapes.push({
        type: "line",
        xref: "x",
        yref: "paper",
        x0: scales.x(n),
        x1: scales.x(n),
        y0: 0,
        y1: 1,
        layer: "below",
        line: { color: quiet, width: 1, dash },
      });
    const writeAbove = (n, xanchor, text) =>
      annotations.push({
        xref: "x",
        yref: "paper",
        x: scales.x(n),
        y: 1,
        xanchor,
        yanchor: "bottom",
        xshift: { left: 3, right: -3, center: 0 }[xanchor],
        text: escapeHtml(text),
        showarrow: false,
        font: { size: 11, color: quiet },
      });
    if (shown.phase === "both") {
      const continuesOnline = ([, grid, online]) => online > 0 && online < data.grids[grid].length;
      if (runs.some(continuesOnline)) {
        verticalLine(dataset.transitions, "5px,3px");
        if (!dataset.segments.length) writeAbove(dataset.transitions, "right", "offline");
        writeAbove(dataset.transitions, "left", "online");
        // The label is about 38 pixels wide, which may be more than the axes have left for a short phase.
        const left = (range[1] - dataset.transitions) / (range[1] - range[0]);
        right = Math.max(right, 42 - left * (panel.plot.clientWidth - 100));
      }
    }
    if (shown.phase !== "online") {
      let start = 0;
      for (const [name, size] of dataset.segments) {
        if (start) verticalLine(start, "2px,3px");
        writeAbove(start + size / 2, "center", name);
        start += size;
      }
    }
    const axis = {
      gridcolor: rule,
      zeroline: false,
      automargin: true,
      title: { font: { size: 12, color: quiet }, standoff: 8 },
      tickfont: { color: quiet, size: 11 },
    };
    const layout = {
      width: panel.plot.clientWidth,
      height: panel.plot.clientHeight,
      margin: { l: 36, r: right, t: annotations.length ? 22 : 8, b: one ? 44 : 24 },
      paper_bgcolor: css("--paper"),
      plot_bgcolor: css("--paper"),
      font: { family: css("--sans"), size: 12, color: ink },
      separators: `.${NARROW_SPACE}`,
      showlegend: false,
      dragmode: coarse ? false : "zoom",
      hovermode: "x unified",
      hoverdistance: reach,
      hoverlabel: { bgcolor: paper, bordercolor: rule, font: { color: ink, size: one ? 12 : 11 } },
      xaxis: {
        ...axis,
        range: range.map(scales.x),
        showgrid: false,
        showline: true,
        linecolor: rule,
        nticks: one ? 9 : 5,
        tickformat: share ? ".0%" : "~s",
        hoverformat: share ? ".1%" : ",.0f",
        spikecolor: quiet,
        spikethickness: 1,
        spikedash: "solid",
        title: one
          ? { ...axis.title, text: share ? "share of the dataset seen" : "transitions seen" }
          : undefined,
      },
      yaxis: { ...axis, nticks: one ? 9 : 6, title: { ...axis.title, text: metric !== null ? data.metrics[metric] : scored ? "score" : "return" } },
      shapes,
      annotations,
      // A zoom is kept while lines are hidden or shown, and reset when the axes change.
      uirevision: JSON.stringify([shown.unit, shown.phase, shown.share, one]),
    };
    panel.isCurrent = true;
    Plotly.react(panel.plot, drawn, layout, { displayModeBar: false, doubleClick: "reset" });
  }

  // --- Curves over all datasets, beside the tables ---

  function drawOverall(element) {
    const { ylabel, reversed, lines, overSizes } = data.plots[element.dataset.plot];
    const drawn = [];
    for (const line of lines) {
      const index = data.styles.findIndex((style) => style.label === line.label);
      if (!overSizes && hidden.has(index)) continue;
      const style = overSizes ? line : data.styles[index];
      const colour = dark.matches ? style.dark : style.colour;
      const dash = style.dash ? style.dash.replace(/,/g, "px,") + "px" : "solid";
      const common = { type: "scatter", name: escapeHtml(line.label), legendgroup: overSizes ? line.label : String(index) };
      const single = line.x.length === 1;
      if (!single) {
        const back = [...line.x.keys()].reverse();
        drawn.push({
          ...common,
          x: [...line.x, ...back.map((i) => line.x[i])],
          y: [...line.low, ...back.map((i) => line.high[i])],
          fill: "toself",
          fillcolor: withAlpha(colour, 0.16),
          mode: "lines",
          line: { width: 0 },
          hoverinfo: "skip",
          showlegend: false,
          meta: "band",
        });
      }
      drawn.push({
        ...common,
        x: line.x,
        y: line.estimate,
        mode: single ? "lines+markers" : "lines",
        line: { color: colour, width: 2, dash },
        text: line.x.map((_, i) => `${line.low[i].toFixed(2)} to ${line.high[i].toFixed(2)}`),
        hovertemplate: `${escapeHtml(line.label)}  <b>%{y:.2f}</b> (%{text})<extra></extra>`,
        meta: "mean",
      });
    }
    const [quiet, rule] = [css("--quiet"), css("--rule")];
    const axis = { gridcolor: rule, zeroline: false, automargin: true, tickfont: { color: quiet, size: 11 } };
    const title = (text) => ({ text, font: { size: 12, color: quiet }, standoff: 8 });
    const layout = {
      width: element.clientWidth,
      height: element.clientHeight,
      margin: { l: 36, r: 14, t: 8, b: 44 },
      paper_bgcolor: css("--paper"),
      plot_bgcolor: css("--paper"),
      font: { family: css("--sans"), size: 12, color: css("--ink") },
      showlegend: true, // the one above the curves is out of sight
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", itemclick: false, itemdoubleclick: false },
      dragmode: coarse ? false : "zoom",
      hovermode: "x unified",
      hoverlabel: { bgcolor: css("--raised"), bordercolor: rule, font: { color: css("--ink") } },
      xaxis: overSizes
        ? { ...axis, showgrid: false, tickformat: "~s", hoverformat: ",d", title: title("transitions seen") }
        : { ...axis, showgrid: false, tickformat: ".0%", hoverformat: ".1%", title: title("share of each dataset seen") },
      yaxis: { ...axis, title: title(ylabel), ...(reversed ? { autorange: "reversed" } : {}) },
    };
    Plotly.react(element, drawn, layout, { displayModeBar: false, doubleClick: "reset" });
  }
  const overall = [...document.querySelectorAll(".overall")];
  const seen = new Set();
  const watchOverall = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting && !seen.has(target)) {
          seen.add(target);
          drawOverall(target);
        }
      }
    },
    { rootMargin: "200px" },
  );
  for (const element of overall) watchOverall.observe(element);

  // --- Panels are drawn when they come into view ---

  const panels = [...container.querySelectorAll(".panel")].map((element, number) => ({
    element,
    number,
    plot: element.querySelector(".plot"),
    isNear: false,
    isCurrent: false,
  }));
  // One at a time, so that the page stays responsive.
  let drawing = false;
  function drawNear() {
    const panel = panels.find((p) => p.isNear && !p.isCurrent && !p.element.hidden);
    drawing = panel !== undefined;
    if (!drawing) return;
    draw(panel);
    setTimeout(drawNear);
  }
  const redraw = () => {
    for (const panel of panels) panel.isCurrent = false;
    seen.forEach(drawOverall);
    if (!drawing) drawNear();
  };
  const watch = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        panels[Number(entry.target.dataset.dataset)].isNear = entry.isIntersecting;
      }
      if (!drawing) drawNear();
    },
    { rootMargin: "200px" },
  );
  for (const panel of panels) watch.observe(panel.element);

  function arrange() {
    const { dataset } = view();
    if (panels.length > 1) {
      container.classList.toggle("one", dataset !== "all");
      for (const panel of panels)
        panel.element.hidden = dataset !== "all" && String(panel.number) !== dataset;
    }
    redraw();
  }
  bar.addEventListener("change", arrange);
  bar.addEventListener("submit", (event) => event.preventDefault());
  dark.addEventListener("change", redraw);
  let width = container.clientWidth;
  new ResizeObserver(() => {
    if (container.clientWidth === width) return;
    width = container.clientWidth;
    redraw();
  }).observe(container);
  for (const button of container.querySelectorAll("button.name")) {
    button.addEventListener("click", () => {
      const number = button.closest(".panel").dataset.dataset;
      bar.elements.dataset.value = bar.elements.dataset.value === "all" ? number : "all";
      arrange();
    });
  }

  // --- Legend ---

  const chips = [...bar.querySelectorAll(".chip")];
  function updateLegend() {
    for (const chip of chips)
      chip.setAttribute("aria-pressed", String(!hidden.has(Number(chip.dataset.style))));
    redraw();
  }
  for (const chip of chips) {
    const style = Number(chip.dataset.style);
    chip.addEventListener("click", () => {
      if (!hidden.delete(style)) hidden.add(style);
      updateLegend();
    });
    chip.addEventListener("dblclick", () => {
      const others = chips.map((other) => Number(other.dataset.style)).filter((other) => other !== style);
      const isOnlyOne = others.every((other) => hidden.has(other));
      hidden.clear();
      if (!isOnlyOne) for (const other of others) hidden.add(other);
      updateLegend();
    });
  }

  // --- Tables ---

  for (const button of document.querySelectorAll("button.sort")) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const table = head.closest("table");
      const body = table.tBodies[0];
      const isNumber = head.classList.contains("number");
      const first = isNumber ? "descending" : "ascending"; // the highest numbers come first
      const current = head.getAttribute("aria-sort");
      const direction = current === first ? (isNumber ? "ascending" : "descending") : first;
      for (const cell of table.tHead.rows[0].cells) cell.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", direction);
      const sign = direction === "ascending" ? 1 : -1;
      const key = (row) => {
        const cell = row.cells[head.cellIndex];
        if (!isNumber) return cell.textContent;
        return "order" in cell.dataset ? Number(cell.dataset.order.replace("inf", "Infinity")) : NaN;
      };
      const rows = [...body.rows].map((row) => [key(row), row]);
      rows.sort(([a], [b]) => {
        if (!isNumber) return sign * a.localeCompare(b, "en", { numeric: true });
        if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
        return a === b ? 0 : sign * (a < b ? -1 : 1);
      });
      body.append(...rows.map(([, row]) => row));
    });
  }

  const dialog = document.getElementById("copy-dialog");
  for (const button of document.querySelectorAll("button.copy")) {
    button.addEventListener("click", async () => {
      const { table, as, from } = button.dataset;
      const text = table ? data.tables[table][as] : document.getElementById(from).textContent;
      const status = button.parentElement.querySelector(".status");
      try {
        await navigator.clipboard.writeText(text);
        status.textContent = "copied";
        setTimeout(() => (status.textContent = ""), 2000);
      } catch {
        const area = dialog.querySelector("textarea");
        area.value = text;
        dialog.showModal();
        area.select();
      }
    });
  }

  arrange();
})();
