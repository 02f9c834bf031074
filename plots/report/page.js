// Draws the curves from the data that the page holds, sorts its tables and copies them. No libraries but Plotly.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const bar = document.getElementById("bar");
  const container = document.getElementById("panels");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const coarse = matchMedia("(pointer: coarse)").matches;
  const hidden = new Set(); // numbers of looks
  const NARROW = "\u202f"; // space between every three digits

  const chosen = (name, otherwise) => {
    const control = bar.elements[name];
    return control ? control.value : otherwise;
  };
  const view = () => ({
    dataset: chosen("dataset", "all"),
    seeds: chosen("seeds", "mean"),
    phase: chosen("phase", "both"),
    unit: chosen("unit", "return"),
    share: chosen("axis", "samples") === "share",
  });
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  // Plotly reads a little HTML in texts; names are to be read as they are.
  const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const extent = (values) => [
    values.reduce((a, b) => Math.min(a, b), Infinity),
    values.reduce((a, b) => Math.max(a, b), -Infinity),
  ];
  const faint = (colour, alpha) => {
    const [r, g, b] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    return `rgba(${r},${g},${b},${alpha})`;
  };

  // --- from runs to lines ---

  // The points of one run that are to be seen: [n, return], in order. The last offline point is online's first.
  function points([seed, grid, online, returns], phase) {
    const all = data.grids[grid].map((n, i) => [n, returns[i]]);
    if (phase === "offline") return all.slice(0, online);
    if (phase === "online") return online < all.length ? all.slice(Math.max(0, online - 1)) : [];
    return all;
  }

  // Mean and range at every n over the runs: {n, mean, low, high, seeds, of}.
  function summary(runs, phase, scale) {
    const at = new Map();
    for (const run of runs) {
      for (const [n, value] of points(run, phase)) {
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

  // Stretches of neighbouring points for which a condition holds.
  function stretches(curve, holds) {
    const found = [];
    let open = null;
    for (const point of curve) {
      if (!holds(point)) open = null;
      else if (open) open.push(point);
      else found.push((open = [point]));
    }
    return found;
  }

  // --- a panel ---

  function traces(line, shown, place) {
    const look = data.looks[line.look];
    const colour = dark.matches ? look.dark : look.colour;
    const runs = line.runs.filter(
      (run) => ["mean", "each"].includes(shown.seeds) || String(run[0]) === shown.seeds,
    );
    const curve = summary(runs, shown.phase, place.scale);
    if (!curve.length) return [];
    const whole = (point) => point.seeds === point.of;
    const alone = curve.filter(whole).length === 1;
    const said = (point) => {
      const range = point.seeds > 1 ? ` (${place.number(point.low)} to ${place.number(point.high)})` : "";
      const seeds = whole(point) ? "" : `, ${point.seeds} of ${point.of} seeds`;
      return `${plain(look.label)}  <b>${place.number(point.mean)}</b>${range}${seeds}`;
    };
    const common = { type: "scatter", mode: "lines", name: look.label };
    const stroke = {
      color: colour,
      width: 2,
      dash: look.dash ? look.dash.replace(/,/g, "px,") + "px" : "solid",
    };
    const found = [];

    const ring = { x: [], y: [] };
    for (const part of stretches(curve, (point) => whole(point) && point.of > 1)) {
      const back = [...part].reverse();
      ring.x.push(...part.map((p) => place.x(p.n)), ...back.map((p) => place.x(p.n)), null);
      ring.y.push(...part.map((p) => p.high), ...back.map((p) => p.low), null);
    }
    if (ring.x.length && !alone) {
      found.push({
        ...common,
        ...ring,
        fill: "toself",
        fillcolor: faint(colour, 0.16),
        line: { width: 0 },
        hoverinfo: "skip",
        meta: "band",
      });
    }
    if (shown.seeds === "each") {
      const thin = { x: [], y: [] };
      for (const run of runs) {
        for (const [n, value] of points(run, shown.phase)) {
          thin.x.push(place.x(n));
          thin.y.push(value === null ? null : place.scale(value));
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
    const told = {
      text: curve.map((p) => (p.mean === null ? "" : said(p))),
      hovertemplate: "%{text}<extra></extra>",
    };
    const complete = curve.every(whole);
    if (!complete) {
      found.push({
        ...common,
        ...told,
        x: curve.map((p) => place.x(p.n)),
        y: curve.map((p) => p.mean),
        line: { ...stroke, width: 1.2, dash: "dot" },
        meta: "part",
      });
    }
    const ends = (p, end) => Math.abs(p[end] - p.mean);
    found.push({
      ...common,
      mode: alone ? "lines+markers" : "lines",
      x: curve.map((p) => place.x(p.n)),
      y: curve.map((p) => (whole(p) ? p.mean : null)),
      ...(complete ? told : { hoverinfo: "skip" }),
      line: stroke,
      marker: { color: colour, size: 7 },
      error_y:
        alone && curve[0].of > 1
          ? {
              type: "data",
              symmetric: false,
              array: curve.map((p) => ends(p, "high")),
              arrayminus: curve.map((p) => ends(p, "low")),
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
    const [lowest, highest] = extent(runs.flatMap((run) => run[3].filter((value) => value !== null)));
    const spread = highest > lowest ? highest - lowest : 1;
    const decimals = scored ? 1 : Math.min(6, Math.max(0, Math.ceil(3 - Math.log10(spread))));
    const [minimum, maximum] = dataset.reference || [];
    const place = {
      scale: (value) => (scored ? (100 * (value - minimum)) / (maximum - minimum) : value),
      x: (n) => (share ? n / dataset.transitions : n),
      number: (value) => value.toFixed(decimals).replace("-", "\u2212"),
    };
    const seen = runs.map((run) => points(run, shown.phase).map(([n]) => n));
    let range = extent(seen.flat());
    if (range[0] > range[1]) range = [0, 1]; // there is no point in this phase
    if (range[0] === range[1]) range = [range[0] * 0.9, range[1] * 1.1 + 1];
    // How near a point must be to be told, in pixels: wherever one hovers, some are.
    const gaps = seen.flatMap((ns) => ns.slice(1).map((n, i) => n - ns[i]));
    const widest = extent([0, ...gaps])[1] / (range[1] - range[0]);
    const reach = Math.min(80, Math.max(20, (widest * panel.plot.clientWidth) / 2 + 2));
    const [ink, quiet, rule, paper] = ["--ink", "--quiet", "--rule", "--raised"].map(css);

    const drawn = [];
    if (dataset.mean !== null) {
      const mean = place.scale(dataset.mean);
      drawn.push({
        type: "scatter",
        mode: "lines",
        x: range.map(place.x),
        y: [mean, mean],
        line: { color: quiet, width: 1.2, dash: "6px,4px" },
        hoverinfo: "skip",
        meta: "data",
      });
    }
    for (const line of lines) if (!hidden.has(line.look)) drawn.push(...traces(line, shown, place));

    let right = 10; // pixels beside the axes
    const shapes = [];
    const annotations = [];
    const upright = (n, dash) =>
      shapes.push({
        type: "line",
        xref: "x",
        yref: "paper",
        x0: place.x(n),
        x1: place.x(n),
        y0: 0,
        y1: 1,
        layer: "below",
        line: { color: quiet, width: 1, dash },
      });
    const above = (n, xanchor, text) =>
      annotations.push({
        xref: "x",
        yref: "paper",
        x: place.x(n),
        y: 1,
        xanchor,
        yanchor: "bottom",
        xshift: { left: 3, right: -3, center: 0 }[xanchor],
        text: plain(text),
        showarrow: false,
        font: { size: 11, color: quiet },
      });
    if (shown.phase === "both") {
      const goesOn = ([, grid, online]) => online > 0 && online < data.grids[grid].length;
      if (runs.some(goesOn)) {
        upright(dataset.transitions, "5px,3px");
        if (!dataset.segments.length) above(dataset.transitions, "right", "offline");
        above(dataset.transitions, "left", "online");
        // The word is some 38 wide, and of a short phase wider than what is left of the axes.
        const left = (range[1] - dataset.transitions) / (range[1] - range[0]);
        right = Math.max(right, 42 - left * (panel.plot.clientWidth - 100));
      }
    }
    if (shown.phase !== "online") {
      let begins = 0;
      for (const [name, size] of dataset.segments) {
        if (begins) upright(begins, "2px,3px");
        above(begins + size / 2, "center", name);
        begins += size;
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
      separators: `.${NARROW}`,
      showlegend: false,
      dragmode: coarse ? false : "zoom",
      hovermode: "x unified",
      hoverdistance: reach,
      hoverlabel: { bgcolor: paper, bordercolor: rule, font: { color: ink, size: one ? 12 : 11 } },
      xaxis: {
        ...axis,
        range: range.map(place.x),
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
      yaxis: { ...axis, nticks: one ? 9 : 6, title: { ...axis.title, text: scored ? "score" : "return" } },
      shapes,
      annotations,
      // A zoom stays while algorithms come and go, and ends with the axes it was made on.
      uirevision: JSON.stringify([shown.unit, shown.phase, shown.share, one]),
    };
    panel.fresh = true;
    Plotly.react(panel.plot, drawn, layout, { displayModeBar: false, doubleClick: "reset" });
  }

  // --- panels are drawn when they come into view ---

  const panels = [...container.querySelectorAll(".panel")].map((element, number) => ({
    element,
    number,
    plot: element.querySelector(".plot"),
    near: false,
    fresh: false,
  }));
  // One at a time, so that the page answers in between.
  let drawing = false;
  function drawNear() {
    const panel = panels.find((each) => each.near && !each.fresh && !each.element.hidden);
    drawing = panel !== undefined;
    if (!drawing) return;
    draw(panel);
    setTimeout(drawNear);
  }
  const redraw = () => {
    for (const panel of panels) panel.fresh = false;
    if (!drawing) drawNear();
  };
  const watch = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        panels[Number(entry.target.dataset.dataset)].near = entry.isIntersecting;
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

  // --- the legend ---

  const chips = [...bar.querySelectorAll(".chip")];
  function show() {
    for (const chip of chips)
      chip.setAttribute("aria-pressed", String(!hidden.has(Number(chip.dataset.look))));
    redraw();
  }
  for (const chip of chips) {
    const look = Number(chip.dataset.look);
    chip.addEventListener("click", () => {
      if (!hidden.delete(look)) hidden.add(look);
      show();
    });
    chip.addEventListener("dblclick", () => {
      const others = chips.map((each) => Number(each.dataset.look)).filter((each) => each !== look);
      const alone = others.every((each) => hidden.has(each));
      hidden.clear();
      if (!alone) for (const each of others) hidden.add(each);
      show();
    });
  }

  // --- tables ---

  for (const button of document.querySelectorAll("button.sort")) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const table = head.closest("table");
      const body = table.tBodies[0];
      const isNumber = head.classList.contains("number");
      const first = isNumber ? "descending" : "ascending"; // of numbers the highest are wanted first
      const now = head.getAttribute("aria-sort");
      const wanted = now === first ? (isNumber ? "ascending" : "descending") : first;
      for (const each of table.tHead.rows[0].cells) each.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", wanted);
      const sign = wanted === "ascending" ? 1 : -1;
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

  const dialog = document.getElementById("by-hand");
  for (const button of document.querySelectorAll("button.copy")) {
    button.addEventListener("click", async () => {
      const { table, as, from } = button.dataset;
      const text = table ? data.copies[table][as] : document.getElementById(from).textContent;
      const said = button.parentElement.querySelector(".said");
      try {
        await navigator.clipboard.writeText(text);
        said.textContent = "copied";
        setTimeout(() => (said.textContent = ""), 2000);
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
