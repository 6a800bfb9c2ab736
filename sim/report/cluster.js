// Charts of clusters of nodes: the node × time picture, the timeline of single GPUs, what jobs waited for, and the
// tables of groups and users. Built on the tools of report.js; text from a trace reaches the page through textContent.
(() => {
  const { DATA, RUNS, HOUR, visible, colour, clamp, el, html, number, brief, percent, duration, instant, scale, timeTicks,
    logTicks, niceTicks, showTip, hideTip, frame, xAxis, lines, sortable, choice, add, summary, bin } = Shunter;
  const C = DATA.cluster, [FIRST, LAST] = DATA.span;
  const controls = (id) => document.getElementById(`${id}-controls`);
  const scaleOf = (id) => document.getElementById(`${id}-scale`);
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const known = (runs) => RUNS.map((_, i) => i).filter((i) => runs[i]);
  const short = (name, characters) => name.length > characters ? `${name.slice(0, characters - 1)}…` : name;
  let ids = 0;

  // Buttons for the runs that have data; calls back with the run's number.
  function pickRun(id, runs, choose) {
    const which = known(runs);
    if (which.length > 1) choice(controls(id), "Run", which.map((i) => RUNS[i].label), (k) => choose(which[k]));
    return which[0];
  }
  function swatch(bar, fill, text) {
    const item = html("span", "", bar);
    html("span", "dot", item).style.setProperty("--c", fill);
    item.append(text);
  }
  function hatching(svg) {
    const id = `hatch${ids++}`, pattern = el("pattern", { id, width: 5, height: 5, patternUnits: "userSpaceOnUse",
      patternTransform: "rotate(45)" }, el("defs", {}, svg));
    el("rect", { width: 5, height: 5, class: "down" }, pattern);
    el("line", { x1: 1, x2: 1, y1: 0, y2: 5, class: "hatch" }, pattern);
    return `url(#${id})`;
  }
  function runName(f, i) {
    if (RUNS.length > 1) el("text", { class: "strong", x: f.x0 + 2, y: f.y0 - 7 }, f.svg, RUNS[i].label);
  }

  // Nodes × time: one path a class of utilisation, made of runs of equal cells ---------------------------------------
  const CLASSES = 8;
  const level = (share) => share ? 1 + Math.min(CLASSES - 1, Math.floor((share - 1) * CLASSES / C.heat.levels)) : 0;
  function heatChart() {
    const H = C.heat, R = H.rows.length, B = H.columns, cache = new Map();
    let run = pickRun("heat", H.runs, (i) => { run = i; draw(); });
    const host = document.getElementById("heat"), bar = scaleOf("heat");
    html("span", "", bar, `Share of the ${DATA.unit} in service that jobs hold:`);
    swatch(bar, "var(--h0)", "none");
    const ramp = html("span", "", bar);
    ramp.append("0 % ");
    for (let k = 1; k <= CLASSES; k++) html("span", "cell", ramp).style.setProperty("--c", `var(--h${k})`);
    ramp.append(" 100 %");
    if (H.runs.some((r) => r && r.down)) html("span", "", bar, "Hatched: out of service");
    function grids(i) {
      if (!cache.has(i)) {
        const { share, down, jobs } = H.runs[i];
        cache.set(i, { share: bytes(share), down: down && bytes(down), jobs: bytes(jobs) });
      }
      return cache.get(i);
    }
    function draw() {
      host.replaceChildren();
      const g = grids(run), cell = clamp(Math.round(480 / R), 3, 22), left = host.clientWidth < 600 ? 84 : 118;
      const mean = g.share.reduce((a, b) => a + b, 0) / g.share.length / H.levels;
      const f = frame(host, 24 + R * cell + 26, `Utilisation of nodes over time, ${RUNS[run].label}`,
        `${R} rows of nodes by ${B} stretches of ${duration((LAST - FIRST) / B)}; mean of all cells ${percent(mean)}.`,
        { left, right: 14, top: 24, bottom: 26 });
      runName(f, run);
      el("rect", { x: f.x0, y: f.y0, width: f.x1 - f.x0, height: R * cell, style: "fill:var(--h0)" }, f.svg);
      const step = (f.x1 - f.x0) / B, hatch = g.down && hatching(f.svg);
      cells(f, R, B, cell, step, (k) => level(g.share[k]), (k) => ({ class: "cells", style: `stroke:var(--h${k})`,
        "stroke-width": cell }));
      if (g.down) {
        const part = (k) => g.down[k] ? Math.ceil(g.down[k] * 4 / H.levels) : 0;
        cells(f, R, B, cell, step, part, (k) => ({ class: "away", style: `fill:${hatch};opacity:${k / 4}` }), true);
      }
      const every = Math.ceil(14 / cell), fits = Math.floor((left - 10) / 6.4);
      for (let r = 0; r < R; r += every) {
        el("text", { x: f.x0 - 7, y: f.y0 + r * cell + Math.min(cell, 14) / 2 + 4, "text-anchor": "end" }, f.svg,
          short(H.rows[r].split(" … ")[0], fits));
      }
      const mx = scale(FIRST, LAST, f.x0, f.x1);
      const [ticks, format] = timeTicks(FIRST, LAST, Math.max(4, Math.floor((f.x1 - f.x0) / 75)));
      xAxis(f, mx, ticks, format, "");
      readCells(f, g, R, B, cell, step);
    }
    // Neighbouring cells of a row with the same class become one stroke (or, for a pattern, one rectangle).
    function cells(f, rows, columns, cell, step, classOf, style, filled) {
      const paths = [];
      for (let r = 0; r < rows; r++) {
        for (let c = 0, from = 0; c < columns; c = from) {
          const k = classOf(r * columns + c);
          for (from = c + 1; from < columns && classOf(r * columns + from) === k;) from++;
          if (!k) continue;
          const x = (f.x0 + c * step).toFixed(2), w = ((from - c) * step).toFixed(2), y = f.y0 + r * cell;
          paths[k] = (paths[k] || "") + (filled ? `M${x} ${y}h${w}v${cell}h-${w}z` : `M${x} ${y + cell / 2}h${w}`);
        }
      }
      paths.forEach((d, k) => el("path", { ...style(k), d }, f.svg));
    }
    function readCells(f, g, rows, columns, cell, step) {
      const box = el("rect", { class: "cursor", width: Math.max(3, step), height: cell, visibility: "hidden" }, f.svg);
      let at = [-1, 0];
      const show = (r, c, px, py) => {
        at = [clamp(r, 0, rows - 1), clamp(c, 0, columns - 1)];
        const k = at[0] * columns + at[1], width = (LAST - FIRST) / columns, from = FIRST + at[1] * width;
        box.setAttribute("x", f.x0 + at[1] * step);
        box.setAttribute("y", f.y0 + at[0] * cell);
        box.setAttribute("visibility", "visible");
        const said = [["From", instant(from)], ["For", duration(width)],
          [`Held of ${brief(H.amounts[at[0]])} ${DATA.unit}`, percent(g.share[k] / H.levels)],
          ["Jobs", g.jobs[k] === 255 ? "255 or more" : number(g.jobs[k], 0)]];
        if (g.down && g.down[k]) said.push(["Out of service", percent(g.down[k] / H.levels)]);
        const where = f.svg.getBoundingClientRect();
        showTip(px === undefined ? where.left + f.x0 + at[1] * step : px,
          py === undefined ? where.top + f.y0 + at[0] * cell : py, H.rows[at[0]], said);
      };
      const clear = () => { box.setAttribute("visibility", "hidden"); hideTip(); };
      f.svg.addEventListener("pointermove", (e) => {
        const where = f.svg.getBoundingClientRect(), ratio = f.width / where.width;
        const r = Math.floor(((e.clientY - where.top) * ratio - f.y0) / cell);
        const c = Math.floor(((e.clientX - where.left) * ratio - f.x0) / step);
        if (r < 0 || r >= rows || c < 0 || c >= columns) return clear();
        show(r, c, e.clientX, e.clientY);
      });
      f.svg.addEventListener("pointerleave", clear);
      f.svg.addEventListener("blur", clear);
      f.svg.addEventListener("keydown", (e) => {
        const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], PageUp: [0, -20],
          PageDown: [0, 20] }[e.key];
        if (move) { show(Math.max(0, at[0] + move[0]), at[1] + move[1]); e.preventDefault(); }
        if (e.key === "Escape") clear();
      });
    }
    add("heat", draw);
  }

  // GPUs × time: which attempt held which GPU -------------------------------------------------------------------------
  const ENDS = { c: "done", k: "at its time limit", f: "failed", p: "stopped for another job", l: "lost to a failure" };
  const SIZES = [[0.999, "< 1"], [1, "1"], [2, "2"], [4, "3–4"], [8, "5–8"], [16, "9–16"], [Infinity, "> 16"]];
  const MOST_NAMES = 6;
  function gpuChart() {
    const G = C.gpus, host = document.getElementById("gpus"), bar = controls("gpus");
    let run = pickRun("gpus", G.runs, (i) => { run = i; draw(); }), block = 0, colouring = null;
    const names = { user: ranked(1), group: ranked(2) };
    const ways = [["User", "user"], ["Group", "group"]].filter(([, key]) => names[key].length > 1);
    ways.push(["Job size", "size"]);
    colouring = ways[0][1];
    if (ways.length > 1) choice(bar, "Colour", ways.map(([name]) => `By ${name.toLowerCase()}`), (k) => { colouring = ways[k][1]; draw(); });
    if (G.blocks.length > 1) {
      const select = html("select", "tool", bar);
      select.setAttribute("aria-label", "Nodes");
      for (const k of G.order) {
        const nodes = G.blocks[k].nodes, last = nodes.length > 1 ? ` … ${nodes[nodes.length - 1]}` : "";
        html("option", "", select, `${nodes[0]}${last}`).value = k;
      }
      select.value = "0";
      select.addEventListener("change", () => { block = Number(select.value); draw(); });
    }
    // Users or groups by the GPU time that they hold in the window over all runs, so that colours do not change.
    function ranked(column) {
      const held = new Map();
      for (const r of G.runs) {
        if (!r) continue;
        for (const bars of r.bars) for (const [j, , a, b, , , width] of bars) {
          const name = r.jobs[j][column];
          if (name !== null) held.set(name, (held.get(name) || 0) + (b - a) * width);
        }
      }
      return [...held].sort((a, b) => b[1] - a[1]).map(([name]) => name);
    }
    function fillOf(job) {
      if (colouring === "size") return `var(--h${2 + SIZES.findIndex(([limit]) => job[3] <= limit)})`;
      const k = names[colouring].indexOf(job[colouring === "user" ? 1 : 2]);
      return k < 0 || k >= MOST_NAMES ? "var(--w0)" : `var(--s${k})`;
    }
    function legend() {
      const scaleBar = scaleOf("gpus");
      scaleBar.replaceChildren();
      if (colouring === "size") {
        html("span", "", scaleBar, "GPUs of the job:");
        const used = new Set(G.runs[run].jobs.map((job) => SIZES.findIndex(([limit]) => job[3] <= limit)));
        SIZES.forEach(([, name], k) => { if (used.has(k)) swatch(scaleBar, `var(--h${k + 2})`, name); });
      } else {
        names[colouring].slice(0, MOST_NAMES).forEach((name, k) => swatch(scaleBar, `var(--s${k})`, short(name, 24)));
        if (names[colouring].length > MOST_NAMES) swatch(scaleBar, "var(--w0)", `${names[colouring].length - MOST_NAMES} others`);
      }
      const ends = new Set(G.runs[run].bars.flat().map((b) => b[4]));
      if (ends.has("p")) html("span", "", scaleBar, "◀ stopped for another job");
      if (ends.has("l") || ends.has("f")) html("span", "", scaleBar, "✕ lost or failed");
      if (G.runs[run].down.length) html("span", "", scaleBar, "Hatched: out of service");
    }
    function draw() {
      host.replaceChildren();
      legend();
      const b = G.blocks[block], r = G.runs[run], lane = clamp(460 / b.size, 2, 26), left = host.clientWidth < 600 ? 92 : 128;
      const f = frame(host, 24 + b.size * lane + 26, `GPUs over time, ${RUNS[run].label}`,
        `${b.size} GPUs of ${b.nodes.length} nodes from ${instant(G.start)} for ${duration(G.end - G.start)}; ${r.bars[block].length} bars.`,
        { left, right: 14, top: 24, bottom: 26 });
      runName(f, run);
      const mx = scale(0, G.end - G.start, f.x0, f.x1), y = (v) => f.y0 + v * lane;
      const clip = `gpus${ids++}`;
      el("rect", { x: f.x0, y: f.y0, width: f.x1 - f.x0, height: b.size * lane }, el("clipPath", { id: clip }, f.svg));
      rows(f, b, y, lane, left);
      const layer = el("g", { "clip-path": `url(#${clip})` }, f.svg), byJob = new Map(), hatch = hatching(f.svg);
      const lanesOf = (k) => [b.lanes[k], k + 1 < b.lanes.length ? b.lanes[k + 1] : b.size];
      for (const [at, node, gpu, from, until] of r.down) {
        if (at !== block) continue;
        const [low, high] = gpu < 0 ? lanesOf(node) : [b.lanes[node] + gpu, b.lanes[node] + gpu + 1];
        el("rect", { x: mx(from), width: Math.max(1, mx(until) - mx(from)), y: y(low), height: y(high) - y(low), style: `fill:${hatch}` }, layer);
      }
      for (const item of r.bars[block]) drawBar(layer, item, r.jobs[item[0]], mx, y, byJob);
      for (const item of r.bars[block]) drawEnd(layer, item, mx, y, lane);
      const [ticks, format] = timeTicks(G.start, G.end, Math.max(4, Math.floor((f.x1 - f.x0) / 75)));
      xAxis(f, (t) => mx(t - G.start), ticks, format, "");
      readBars(f, r, byJob);
    }
    function rows(f, b, y, lane, left) {
      b.nodes.forEach((name, k) => {
        const low = b.lanes[k], high = k + 1 < b.lanes.length ? b.lanes[k + 1] : b.size;
        el("line", { class: "axis", x1: f.x0 - left + 4, x2: f.x1, y1: y(low), y2: y(low) }, f.svg);
        el("text", { x: f.x0 - left + 4, y: y(low) + Math.min(13, Math.max(9, (high - low) * lane - 1)) }, f.svg,
          short(name, Math.floor((left - 30) / 6.4)));
        for (let g = low; lane >= 11 && g < high; g++) {
          el("text", { class: "small", x: f.x0 - 6, y: y(g) + lane / 2 + 4, "text-anchor": "end" }, f.svg, String(g - low));
          if (g > low) el("line", { class: "gridline", x1: f.x0, x2: f.x1, y1: y(g), y2: y(g) }, f.svg);
        }
      });
    }
    function drawBar(layer, item, job, mx, y, byJob) {
      const [j, , from, until, , low, width] = item, a = mx(Math.max(from, from < 0 ? -1e4 : 0)), pad = y(1) - y(0) > 6 ? 0.5 : 0;
      const x = Math.max(a, mx(0) - 4), right = Math.min(mx(until), mx(G.end - G.start) + 4);
      const rect = el("rect", { class: right - x > 3 ? "job edged" : "job", x: x.toFixed(2), y: (y(low) + pad).toFixed(2),
        width: Math.max(0.8, right - x).toFixed(2), height: Math.max(0.6, y(low + width) - y(low) - 2 * pad).toFixed(2),
        style: `fill:${fillOf(job)}` }, layer);
      rect.item = item;
      if (!byJob.has(j)) byJob.set(j, []);
      byJob.get(j).push(rect);
    }
    function drawEnd(layer, [, , , until, ended, low, width], mx, y, lane) {
      if (until > G.end - G.start || !"plf".includes(ended)) return;
      const x = mx(until), r = clamp(lane * width / 2 - 1, 1.5, 4), middle = (y(low) + y(low + width)) / 2;
      const d = ended === "p" ? `M${x} ${middle - r}v${2 * r}l${-r * 1.4} ${-r}z`
        : `M${x - r} ${middle - r}l${2 * r} ${2 * r}m${-2 * r} 0l${2 * r} ${-2 * r}`;
      el("path", { class: "halo", d }, layer);
      el("path", { class: ended === "p" ? "stopped" : "lost", d }, layer);
    }
    function readBars(f, r, byJob) {
      let lit = [];
      const dim = () => { for (const rect of lit) rect.classList.remove("lit"); lit = []; };
      f.svg.addEventListener("pointermove", (e) => {
        const item = e.target.item;
        dim();
        if (!item) return hideTip();
        const [j, attempt, from, until, ended, , width] = item, [id, user, group, size, wait] = r.jobs[j];
        lit = byJob.get(j);
        for (const rect of lit) rect.classList.add("lit");
        const said = [["GPUs", number(size, 3)], ["of them here", number(width, 3)], ["Attempt", number(attempt, 0)],
          ["Began", instant(G.start + from)], ["Ran", duration(until - from)], ["Ended", ENDS[ended]],
          ["Waited for the first start", duration(wait)]];
        if (group !== null) said.unshift(["Group", group]);
        if (user !== null) said.unshift(["User", user]);
        showTip(e.clientX, e.clientY, `Job ${id}`, said);
      });
      f.svg.addEventListener("pointerleave", () => { dim(); hideTip(); });
    }
    add("gpus", draw);
  }

  // What jobs waited for ----------------------------------------------------------------------------------------------
  const REASON_COLOURS = ["var(--s0)", "var(--s4)", "var(--s3)", "var(--s2)", "var(--s1)"];
  function reasonCharts() {
    const W = C.waiting, modes = { reasons: false, "reasons-by": false };
    let run = 0;
    const scaleBar = scaleOf("reasons");
    W.names.forEach((name, k) => {
      swatch(scaleBar, REASON_COLOURS[k], name);
      scaleBar.lastChild.title = W.meanings[k];
    });
    for (const id of Object.keys(modes)) {
      const bar = controls(id);
      if (!bar) continue;
      if (id === "reasons-by" && RUNS.length > 1) choice(bar, "Run", RUNS.map((r) => r.label), (k) => { run = k; charts[id](); });
      choice(bar, "Unit", ["Hours", "Share"], (k) => { modes[id] = k === 1; charts[id](); });
    }
    const charts = {
      reasons: () => bars("reasons", visible().map((i) => [RUNS[i].label, W.totals[i]]), "What jobs waited for, by run"),
      "reasons-by": () => bars("reasons-by", W.by.map((row) => [row.name, row.hours[run]]),
        `What jobs waited for, by ${W.column}, ${RUNS[run].label}`),
    };
    function bars(id, rows, title) {
      const host = document.getElementById(id), share = modes[id];
      host.replaceChildren();
      const sums = rows.map(([, hours]) => hours.reduce((a, b) => a + b, 0));
      const most = share ? 1 : Math.max(1e-9, ...sums), narrow = host.clientWidth < 600, thick = 22, gap = 9;
      const left = narrow ? 96 : 150, right = narrow ? 62 : 84;
      const f = frame(host, 6 + rows.length * (thick + gap) + 44, title,
        rows.map(([name], k) => `${name}: ${number(sums[k], 1)} hours`).join("; "), { left, right, top: 6, bottom: 44 });
      const mx = scale(0, most, f.x0, f.x1);
      for (const t of niceTicks(0, most, narrow ? 3 : 6)) el("line", { class: "gridline", x1: mx(t), x2: mx(t), y1: f.y0, y2: f.y1 }, f.svg);
      rows.forEach(([name, hours], k) => {
        const y = f.y0 + k * (thick + gap) + gap / 2, divide = share ? Math.max(1e-12, sums[k]) : 1;
        el("text", { x: f.x0 - 8, y: y + thick / 2 + 4, "text-anchor": "end" }, f.svg, short(name, Math.floor((left - 10) / 6.8)));
        let before = 0;
        hours.forEach((h, reason) => {
          const a = mx(before / divide), b = mx((before + h) / divide);
          before += h;
          if (h <= 0) return;
          const rect = el("rect", { class: "job", x: a.toFixed(2), y, width: Math.max(0.7, b - a).toFixed(2), height: thick,
            style: `fill:${REASON_COLOURS[reason]}` }, f.svg);
          const part = percent(h / sums[k]);
          if (b - a > part.length * 7 + 6) el("text", { class: "inside", x: (a + b) / 2, y: y + thick / 2 + 4, "text-anchor": "middle" }, f.svg, part);
          rect.addEventListener("pointermove", (e) => showTip(e.clientX, e.clientY, `${name}: ${W.names[reason].toLowerCase()}`,
            [["Waited", `${number(h, 1)} h`], ["Share", part], ["All reasons", `${number(sums[k], 1)} h`]]));
          rect.addEventListener("pointerleave", hideTip);
        });
        el("text", { x: (share ? f.x1 : mx(sums[k])) + 6, y: y + thick / 2 + 4 }, f.svg, `${brief(sums[k])} h`);
      });
      xAxis(f, mx, niceTicks(0, most, narrow ? 3 : 6), share ? (v) => `${Math.round(100 * v)} %` : brief,
        share ? "Share of the waiting" : "Hours waited, all jobs");
    }
    for (const id of Object.keys(charts)) add(id, charts[id]);
  }

  // Tables of groups and users ------------------------------------------------------------------------------------------
  function peopleTables() {
    const P = C.people;
    const heads = [["Jobs", "jobs that started"], [P.hours, `${P.hours} held, over all attempts`],
      ["Share", `part of all ${P.hours}`], ["Mean wait", "mean time from submission to first start"],
      ["Wait p95", "95th percentile of that"], ["Mean JCT", "mean time from submission to end"],
      ["Preemptions", "attempts stopped for other jobs"],
      [`${P.hours} lost`, "work thrown away, and restart overhead"],
      ["Mean ρ", "mean finish-time fairness: time in the system over that on a private share; above 1 is worse"]];
    const write = [(v) => number(v, 0), brief, percent, duration, duration, duration, (v) => number(v, 0), brief, (v) => number(v, 2)];
    P.tables.forEach((table, t) => {
      const host = document.getElementById(`people-${t}`);
      const fill = (run) => {
        host.replaceChildren();
        const node = html("table", "names wide", host), head = html("tr", "", node.createTHead());
        const columns = heads.map((_, k) => k).filter((k) => table.runs[run].some((row) => row[k + 2] !== null));
        for (const [text, meaning] of [[table.name.slice(0, -1), ""], ...columns.map((k) => heads[k])]) {
          const th = html("th", "", head, text);
          th.scope = "col";
          th.title = meaning;
        }
        const body = node.createTBody();
        for (const [name, others, ...values] of table.runs[run]) {
          const row = html("tr", "", others ? node.createTFoot() : body), th = html("th", "", row, name);
          th.scope = "row";
          th.title = name;
          for (const k of columns) html("td", "", row, values[k] === null ? "–" : write[k](values[k])).dataset.value = values[k] === null ? "" : values[k];
        }
        sortable(node);
      };
      fill(pickRun(`people-${t}`, table.runs.map((r) => r.length > 0), fill));
    });
  }

  // Wiring --------------------------------------------------------------------------------------------------------------
  const over = (runs, name) => RUNS.map((_, i) => (runs[i] ? runs[i][name] : null));
  const described = (runs) => known(runs).map((i) => `${RUNS[i].label}: ${runs[i].note}`).join("; ");
  const overTime = (id, runs, name, spec) => add(id, lines, { x: DATA.time.x, ys: over(runs, name), strips: true, thin: true,
    step: true, height: 200, ticks: timeTicks, yformat: brief, desc: described(runs), note: (i) => runs[i].note,
    xread: (t) => `${instant(t)} (mean of ${bin})`, ...spec });
  if (C.free) {
    overTime("fragmented", C.free.runs, "fragmented", { title: "Fragmented GPUs over time", yread: (v) => `${brief(v)} GPUs` });
  }
  if (C.power) {
    overTime("power", C.power.runs, "kw", { title: "Power over time", yread: (v) => `${brief(v)} kW`, limit: C.power.cap,
      limitName: "power cap" });
  }
  if (C.rho) {
    add("rho", lines, { title: "Cumulative distribution of finish-time fairness", x: C.rho.x, ys: over(C.rho.runs, "y"),
      log: true, ymax: 1, height: 270, xlabel: "Finish-time fairness ρ (logarithmic)", mark: 1, markName: "private share",
      desc: known(C.rho.runs).map((i) => `${RUNS[i].label}: ${percent(C.rho.runs[i].y[C.rho.x.findIndex((x) => x >= 1)])} of jobs at most 1`).join("; "),
      ticks: (lo, hi) => [logTicks(lo, hi, 8), brief], yformat: (v) => `${Math.round(100 * v)} %`,
      xread: (x) => `ρ at most ${number(x, 2)}`, yread: percent });
  }
  if (C.heat) heatChart();
  if (C.gpus) gpuChart();
  if (C.waiting) reasonCharts();
  if (C.people) peopleTables();
})();
