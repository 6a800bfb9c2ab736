// Charts of the report, drawn as SVG from the aggregates in #data: no library and no network. Text from the trace only
// ever reaches the page through textContent. Series colours are CSS variables, so light, dark and print need no redraw.
//
// The whole is a value, Shunter: cluster.js, where the page has it, adds its charts through it. start() draws.
"use strict";
const Shunter = (() => {
  const DATA = JSON.parse(document.getElementById("data").textContent);
  const RUNS = DATA.runs;
  const hidden = new Set();
  const charts = [];
  const MIN = 60, HOUR = 3600, DAY = 86400;
  const DASHES = ["", "7 4", "2 4"];
  const visible = () => RUNS.map((_, i) => i).filter((i) => !hidden.has(i));
  const colour = (i) => `var(--s${i % 7})`;
  const dash = (i) => DASHES[Math.floor(i / 7) % DASHES.length];
  const clamp = (v, lo, hi) => Math.min(hi, Math.max(lo, v));

  // Elements -----------------------------------------------------------------------------------------------------
  const SVG = "http://www.w3.org/2000/svg";
  function el(name, attributes, parent, text) {
    const node = document.createElementNS(SVG, name);
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.appendChild(node);
    return node;
  }
  function html(name, className, parent, text) {
    const node = document.createElement(name);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    if (parent) parent.appendChild(node);
    return node;
  }

  // Numbers ------------------------------------------------------------------------------------------------------
  const number = (v, digits) => v.toLocaleString("en", { maximumFractionDigits: digits }).replace(/,/g, "\u202f");
  const brief = (v) => number(v, Math.abs(v) >= 100 ? 0 : Math.abs(v) >= 10 ? 1 : 2);
  const percent = (v) => `${number(100 * v, 1)} %`;
  function duration(s) {
    if (s < 0) return `−${duration(-s)}`;
    if (s < 59.5) return `${number(s, s < 10 ? 1 : 0)} s`;
    for (const [unit, name, part, partName, limit] of
      [[MIN, "min", 1, "s", HOUR], [HOUR, "h", MIN, "min", 2 * DAY], [DAY, "d", HOUR, "h", Infinity]]) {
      const parts = Math.round(s / part), per = unit / part;
      if (parts < limit / part) {
        const whole = Math.floor(parts / per), rest = parts % per;
        return rest && whole < 100 ? `${whole} ${name} ${rest} ${partName}` : `${number(whole, 0)} ${name}`;
      }
    }
  }
  const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
  const dateOf = (t) => new Date((DATA.startUnix + t) * 1000);
  const two = (v) => String(v).padStart(2, "0");
  function instant(t) {
    if (DATA.startUnix === null) return `${duration(t - DATA.span[0])} after the first submit`;
    const d = dateOf(t);
    return `${d.getUTCDate()} ${MONTHS[d.getUTCMonth()]} ${d.getUTCFullYear()} ` +
      `${two(d.getUTCHours())}:${two(d.getUTCMinutes())} UTC`;
  }

  // Scales and ticks ---------------------------------------------------------------------------------------------
  function scale(d0, d1, r0, r1, log) {
    const f = log ? Math.log10 : (v) => v, a = f(d0), b = f(d1);
    const map = (v) => r0 + (f(v) - a) / (b - a || 1) * (r1 - r0);
    map.invert = (p) => { const u = a + (p - r0) / (r1 - r0) * (b - a); return log ? 10 ** u : u; };
    return map;
  }
  function niceTicks(lo, hi, count) {
    const raw = (hi - lo) / Math.max(1, count), power = 10 ** Math.floor(Math.log10(raw || 1));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
    const ticks = [];
    for (let k = Math.ceil(lo / step - 1e-9); k * step <= hi + step * 1e-9; k++) ticks.push(k * step || 0);  // never −0
    return ticks;
  }
  function logTicks(lo, hi, most) {
    const ticks = [];
    for (let e = Math.floor(Math.log10(lo)); 10 ** e <= hi * 1.0001; e++) if (10 ** e >= lo * 0.9999) ticks.push(10 ** e);
    if (ticks.length < 3) {
      const fine = [];
      for (const t of [ticks[0] / 10, ...ticks]) for (const m of [1, 2, 5]) fine.push(t * m);
      return fine.filter((t) => t >= lo * 0.9999 && t <= hi * 1.0001);
    }
    const every = Math.ceil(ticks.length / most);
    return ticks.filter((_, i) => i % every === 0);
  }
  const WAIT_TICKS = [1, 10, MIN, 10 * MIN, HOUR, 6 * HOUR, DAY, 7 * DAY, 30 * DAY, 365 * DAY];
  function calendarTicks(lo, hi, count) {
    const first = dateOf(lo), raw = (hi - lo) / count;
    const months = [1, 2, 3, 6, 12, 24, 60].find((m) => m * 30 * DAY >= raw) || 120;
    const ticks = [];
    if (raw > 28 * DAY) {
      let m = first.getUTCFullYear() * 12 + first.getUTCMonth();
      for (m = Math.ceil(m / months) * months; ; m += months) {
        const t = Date.UTC(Math.floor(m / 12), m % 12) / 1000 - DATA.startUnix;
        if (t > hi) break;
        if (t >= lo) ticks.push(t);
      }
      return [ticks, (t) => { const d = dateOf(t); return `${MONTHS[d.getUTCMonth()]} ${d.getUTCFullYear()}`; }];
    }
    const step = [5 * MIN, 15 * MIN, 30 * MIN, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY,
      14 * DAY, 28 * DAY].find((s) => s >= raw);
    const offset = DATA.startUnix;
    for (let k = Math.ceil((lo + offset) / step); k * step - offset <= hi; k++) ticks.push(k * step - offset);
    return [ticks, (t) => {
      const d = dateOf(t), day = `${d.getUTCDate()} ${MONTHS[d.getUTCMonth()]}`;
      return step >= DAY || (d.getUTCHours() === 0 && d.getUTCMinutes() === 0)
        ? day : `${two(d.getUTCHours())}:${two(d.getUTCMinutes())}`;
    }];
  }
  function timeTicks(lo, hi, count) {
    if (DATA.startUnix !== null) return calendarTicks(lo, hi, count);
    const [unit, name] = hi - lo > 3 * DAY ? [DAY, "d"] : hi - lo > 3 * HOUR ? [HOUR, "h"] : [MIN, "min"];
    const origin = DATA.span[0];
    const ticks = niceTicks((lo - origin) / unit, (hi - origin) / unit, count).map((v) => v * unit + origin);
    return [ticks, (t) => `${number((t - origin) / unit, 2)} ${name}`];
  }

  // Tooltip ------------------------------------------------------------------------------------------------------
  const tip = html("div", "", document.body);
  tip.id = "tip";
  tip.hidden = true;
  tip.setAttribute("role", "status");
  function showTip(x, y, title, rows) {
    tip.replaceChildren();
    html("b", "", tip, title);
    for (const [name, value, c] of rows) {
      const row = html("div", "", tip), label = html("span", "", row);
      if (c) html("span", "dot", label).style.setProperty("--c", c);
      label.append(name);
      html("span", "", row, value);
    }
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${clamp(x + 16 + box.width > innerWidth ? x - box.width - 16 : x + 16, 4, innerWidth - box.width)}px`;
    tip.style.top = `${clamp(y + 16, 4, innerHeight - box.height - 4)}px`;
  }
  const hideTip = () => { tip.hidden = true; };

  // Frame of a chart ---------------------------------------------------------------------------------------------
  let ids = 0;
  function frame(host, height, title, desc, margin) {
    const width = Math.max(240, Math.floor(host.clientWidth));
    const id = `c${ids++}`;
    const svg = el("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img",
      "aria-labelledby": `${id}t ${id}d`, tabindex: "0" }, host);
    el("title", { id: `${id}t` }, svg, title);
    el("desc", { id: `${id}d` }, svg, desc);
    return { svg, width, height, x0: margin.left, x1: width - margin.right, y0: margin.top, y1: height - margin.bottom };
  }
  function yAxis(f, map, ticks, format) {
    for (const t of ticks) {
      el("line", { class: "gridline", x1: f.x0, x2: f.x1, y1: map(t), y2: map(t) }, f.svg);
      el("text", { x: f.x0 - 8, y: map(t) + 4, "text-anchor": "end" }, f.svg, format(t));
    }
  }
  function xAxis(f, map, ticks, format, label) {
    el("line", { class: "axis", x1: f.x0, x2: f.x1, y1: f.y1, y2: f.y1 }, f.svg);
    let last = -Infinity;
    for (const t of ticks) {
      const text = format(t), half = text.length * 3.3, p = clamp(map(t), half, f.width - half);
      if (p - half < last + 8) continue;
      last = p + half;
      el("line", { class: "axis", x1: map(t), x2: map(t), y1: f.y1, y2: f.y1 + 4 }, f.svg);
      el("text", { x: p, y: f.y1 + 18, "text-anchor": "middle" }, f.svg, text);
    }
    if (label) el("text", { x: (f.x0 + f.x1) / 2, y: f.y1 + 36, "text-anchor": "middle" }, f.svg, label);
  }
  const path = (xs, ys, mx, my) => {
    let d = "";
    for (let k = 0; k < xs.length; k++) d += `${k ? "L" : "M"}${mx(xs[k]).toFixed(1)} ${my(ys[k]).toFixed(1)}`;
    return d;
  };

  // Each value over the whole of its stretch of time; xs are the middles of equal stretches.
  function steps(xs, ys, mx, my) {
    const half = xs.length > 1 ? (xs[1] - xs[0]) / 2 : 0;
    let d = `M${mx(xs[0] - half).toFixed(1)} ${my(ys[0]).toFixed(1)}`;
    for (let k = 0; k < xs.length; k++) d += `V${my(ys[k]).toFixed(1)}H${mx(xs[k] + half).toFixed(1)}`;
    return d;
  }
  function reference(f, x1, x2, y1, y2, name) {
    el("line", { class: "reference", x1, x2, y1, y2 }, f.svg);
    el("text", { x: Math.min(x1, x2) + 5, y: y1 === y2 ? y1 + 13 : Math.max(y1, y2) - 6 }, f.svg, name);
  }

  // Lines: one panel with all runs, or (strips) one panel a run with a common axis ------------------------------------
  function lines(host, spec) {
    host.replaceChildren();
    const runs = visible().filter((i) => spec.ys[i]), strips = spec.strips && runs.length > 1;
    if (!runs.length) return html("p", "note", host, "The runs shown have no such data.");
    const panel = strips ? clamp(420 / runs.length, 84, 150) : spec.height;
    const gap = 26, count = strips ? runs.length : 1;
    const head = strips ? 20 : 14, height = head + count * panel + (count - 1) * gap + (spec.xlabel ? 44 : 26);
    const f = frame(host, height, spec.title, spec.desc, { left: 52, right: 14, top: head, bottom: spec.xlabel ? 44 : 26 });
    const half = spec.step && spec.x.length > 1 ? (spec.x[1] - spec.x[0]) / 2 : 0;
    const mx = scale(spec.x[0] - half, spec.x[spec.x.length - 1] + half, f.x0, f.x1, spec.log);
    const top = spec.ymax || niceTop(Math.max(spec.limit || 0, ...runs.map((i) => Math.max(...spec.ys[i]))) || 1);
    (strips ? runs.map((i) => [i]) : [runs]).forEach((group, row) => {
      const y0 = f.y0 + row * (panel + gap), y1 = y0 + panel;
      const my = scale(0, top, y1, y0);
      yAxis(f, my, niceTicks(0, top, panel > 120 ? 5 : 2), spec.yformat);
      for (const i of group) {
        const line = (spec.step ? steps : path)(spec.x, spec.ys[i], mx, my);
        if (strips || runs.length === 1) {
          el("path", { class: "area", style: `fill:${colour(i)}`, d: `${line}L${f.x1} ${y1}L${f.x0} ${y1}Z` }, f.svg);
        }
        el("path", { class: "series", style: `stroke:${colour(i)};stroke-width:${spec.thin ? 1.4 : 2}`,
          "stroke-dasharray": dash(i), d: line }, f.svg);
        if (strips) {
          const name = el("text", { class: "strong", x: f.x0 + 2, y: y0 - 6 }, f.svg, RUNS[i].label);
          el("tspan", { dx: 8, style: "fill:var(--soft);font-weight:400" }, name, spec.note(i));
        }
      }
      if (row < count - 1) el("line", { class: "axis", x1: f.x0, x2: f.x1, y1, y2: y1 }, f.svg);
      if (spec.limit) reference(f, f.x0, f.x1, my(spec.limit), my(spec.limit), spec.limitName);
      if (spec.mark) reference(f, mx(spec.mark), mx(spec.mark), y0, y1, spec.markName);
    });
    const [ticks, format] = spec.ticks(mx.invert(f.x0), mx.invert(f.x1), Math.max(4, Math.floor((f.x1 - f.x0) / 85)));
    xAxis(f, mx, ticks, format, spec.xlabel);
    crosshair(f, mx, spec, runs);
  }
  function niceTop(v) { const t = niceTicks(0, v, 5); return t[t.length - 1] >= v ? v : t[t.length - 1] + (t[1] - t[0]); }
  function crosshair(f, mx, spec, runs) {
    const cross = el("line", { class: "cross", y1: f.y0, y2: f.y1, visibility: "hidden" }, f.svg);
    let at = -1;
    const show = (k, px, py) => {
      at = clamp(k, 0, spec.x.length - 1);
      const x = mx(spec.x[at]);
      cross.setAttribute("x1", x); cross.setAttribute("x2", x); cross.setAttribute("visibility", "visible");
      const box = f.svg.getBoundingClientRect();
      showTip(px === undefined ? box.left + x * box.width / f.width : px, py === undefined ? box.top + 20 : py,
        spec.xread(spec.x[at]), runs.map((i) => [RUNS[i].label, spec.yread(spec.ys[i][at]), colour(i)]));
    };
    const clear = () => { cross.setAttribute("visibility", "hidden"); hideTip(); };
    f.svg.addEventListener("pointermove", (e) => {
      const box = f.svg.getBoundingClientRect(), p = (e.clientX - box.left) * f.width / box.width;
      if (p < f.x0 - 6 || p > f.x1 + 6) return clear();
      const v = mx.invert(p);
      let lo = 0, hi = spec.x.length - 1;
      while (hi - lo > 1) { const mid = (lo + hi) >> 1; if (spec.x[mid] < v) lo = mid; else hi = mid; }
      show(Math.abs(mx(spec.x[lo]) - p) < Math.abs(mx(spec.x[hi]) - p) ? lo : hi, e.clientX, e.clientY);
    });
    f.svg.addEventListener("pointerleave", clear);
    f.svg.addEventListener("blur", clear);
    f.svg.addEventListener("keydown", (e) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20 }[e.key];
      if (step) { show(at < 0 ? 0 : at + step); e.preventDefault(); }
      if (e.key === "Escape") clear();
    });
  }

  // Slowdown by size: a box from the lower to the upper quartile, a bar at the median, a whisker to the 95th -----------
  function boxes(host, spec) {
    host.replaceChildren();
    const runs = visible();
    const f = frame(host, spec.height + 58, spec.title, spec.desc, { left: 52, right: 14, top: 14, bottom: 44 });
    const all = runs.flatMap((i) => spec.cells[i].filter(Boolean).map((c) => c.p95));
    const top = Math.max(10, ...all) * 1.15;
    const my = scale(1, top, f.y1, f.y0, true);
    yAxis(f, my, logTicks(1, top, 6), (v) => number(v, 0));
    el("line", { class: "axis", x1: f.x0, x2: f.x1, y1: f.y1, y2: f.y1 }, f.svg);
    const band = (f.x1 - f.x0) / spec.labels.length, inner = Math.min(band * 0.76, runs.length * 34);
    const every = Math.ceil(Math.max(...spec.labels.map((l) => l.length)) * 6.6 / (band - 6));
    spec.labels.forEach((label, k) => {
      const left = f.x0 + band * k + (band - inner) / 2, each = inner / Math.max(1, runs.length);
      runs.forEach((i, j) => {
        const c = spec.cells[i][k];
        if (!c) return;
        const w = Math.min(each * 0.78, 26), x = left + each * j + (each - w) / 2;
        const g = el("g", { style: `--c:${colour(i)}` }, f.svg);
        el("rect", { x: x - 3, y: f.y0, width: w + 6, height: f.y1 - f.y0, fill: "transparent" }, g);
        el("line", { x1: x + w / 2, x2: x + w / 2, y1: my(c.p75), y2: my(c.p95), style: "stroke:var(--c)", "stroke-width": 1.6 }, g);
        el("line", { x1: x + w * 0.2, x2: x + w * 0.8, y1: my(c.p95), y2: my(c.p95), style: "stroke:var(--c)", "stroke-width": 1.6 }, g);
        el("rect", { x, width: w, y: my(c.p75), height: Math.max(2, my(c.p25) - my(c.p75)), rx: 2, style: "fill:var(--c);fill-opacity:.28;stroke:var(--c)" }, g);
        el("line", { x1: x, x2: x + w, y1: my(c.p50), y2: my(c.p50), style: "stroke:var(--c)", "stroke-width": 3 }, g);
        g.addEventListener("pointermove", (e) => showTip(e.clientX, e.clientY, `${RUNS[i].label}, ${label} ${spec.unit}`, [
          ["Jobs", number(c.jobs, 0)], ["Mean", brief(c.mean)], ["95 % below", brief(c.p95)],
          ["75 % below", brief(c.p75)], ["Median", brief(c.p50)], ["25 % below", brief(c.p25)]]));
        g.addEventListener("pointerleave", hideTip);
      });
      if (k % every === 0) {
        el("text", { x: f.x0 + band * (k + 0.5), y: f.y1 + 18, "text-anchor": "middle" }, f.svg, label);
      }
    });
    el("text", { x: (f.x0 + f.x1) / 2, y: f.y1 + 36, "text-anchor": "middle" }, f.svg, `Job size (${spec.unit})`);
  }

  // Gantt --------------------------------------------------------------------------------------------------------
  const WAIT_CLASSES = [MIN, 10 * MIN, HOUR, 6 * HOUR, DAY];
  const WAIT_NAMES = ["up to 1 min", "to 10 min", "to 1 h", "to 6 h", "to 1 day", "longer"];
  const MAX_PANELS = 3;
  const view = { window: 0, x: null, y: null };
  const waitClass = (w) => { const k = WAIT_CLASSES.findIndex((limit) => w <= limit); return k < 0 ? 5 : k; };
  function gantt(host, spec) {
    host.replaceChildren();
    const win = DATA.windows[view.window], runs = visible().slice(0, MAX_PANELS);
    const lanes = Math.max(1, ...win.runs.map((r) => r.lanes));
    const dx = view.x || [win.start, win.end], dy = view.y || [0, lanes];
    const panel = clamp(560 / Math.max(1, runs.length), 190, 340), gap = 28;
    const height = 18 + runs.length * (panel + gap) - gap + 28;
    const f = frame(host, Math.max(80, height), spec.title, spec.desc, { left: 52, right: 14, top: 18, bottom: 28 });
    const mx = scale(dx[0], dx[1], f.x0, f.x1);
    const byId = new Map();
    runs.forEach((i, row) => {
      const y0 = f.y0 + row * (panel + gap), y1 = y0 + panel, my = scale(dy[0], dy[1], y1, y0);
      yAxis(f, my, niceTicks(dy[0], dy[1], 4), brief);
      const name = el("text", { class: "strong", x: f.x0 + 2, y: y0 - 6 }, f.svg, RUNS[i].label);
      const left = win.runs[i].leftOut;
      el("tspan", { dx: 8, style: "fill:var(--soft);font-weight:400" }, name,
        `${number(win.runs[i].jobs.length, 0)} jobs${left ? `, ${number(left, 0)} smaller ones not shown` : ""}`);
      const clip = `k${ids++}`;
      el("rect", { x: f.x0, y: y0, width: f.x1 - f.x0, height: panel }, el("clipPath", { id: clip }, f.svg));
      const layer = el("g", { "clip-path": `url(#${clip})` }, f.svg);
      for (const job of win.runs[i].jobs) drawJob(layer, job, mx, my, dx, dy, byId);
      el("line", { class: "axis", x1: f.x0, x2: f.x1, y1, y2: y1 }, f.svg);
    });
    const [ticks, format] = timeTicks(dx[0], dx[1], Math.max(3, Math.floor((f.x1 - f.x0) / 95)));
    xAxis(f, mx, ticks, format, "");
    jobReadout(f, byId);
    brush(f, mx, dy, panel, gap, runs.length);
  }
  function drawJob(layer, job, mx, my, dx, dy, byId) {
    const [id, , , , wait, start, end, pieces] = job;
    if (start >= dx[1] || end <= dx[0]) return;
    const a = mx(Math.max(start, dx[0] - (dx[1] - dx[0]))), b = mx(Math.min(end, dx[1] + (dx[1] - dx[0])));
    for (let k = 0; k < pieces.length; k += 2) {
      if (pieces[k] >= dy[1] || pieces[k] + pieces[k + 1] <= dy[0]) continue;
      const y = my(pieces[k] + pieces[k + 1]), width = Math.max(0.8, b - a), high = Math.max(0.4, my(pieces[k]) - y);
      const rect = el("rect", { class: width > 3 && high > 3 ? "job edged" : "job", x: a.toFixed(2), y: y.toFixed(2),
        width: width.toFixed(2), height: high.toFixed(2), style: `fill:var(--w${waitClass(wait)})` }, layer);
      rect.job = job;
      if (!byId.has(id)) byId.set(id, []);
      byId.get(id).push(rect);
    }
  }
  function jobReadout(f, byId) {
    let lit = [];
    const dim = () => { for (const r of lit) r.classList.remove("lit"); lit = []; };
    f.svg.addEventListener("pointermove", (e) => {
      const job = e.target.job;
      dim();
      if (!job) return hideTip();
      const [id, user, group, size, wait, start, end] = job;
      lit = byId.get(id);
      for (const r of lit) r.classList.add("lit");
      const rows = [["Size", `${number(size, 3)} ${DATA.unit}`], ["Waited", duration(wait)], ["Ran", duration(end - start)]];
      if (user !== null) rows.unshift(["User", user]);
      if (group !== null) rows.splice(user === null ? 0 : 1, 0, ["Group", group]);
      rows.push(["Submitted", instant(start - wait)]);
      showTip(e.clientX, e.clientY, `Job ${id}`, rows);
    });
    f.svg.addEventListener("pointerleave", () => { dim(); hideTip(); });
  }
  function zoom(factor, centre) {
    const win = DATA.windows[view.window], [a, b] = view.x || [win.start, win.end];
    const c = centre === undefined ? (a + b) / 2 : centre;
    const lo = Math.max(win.start, c - (c - a) * factor), hi = Math.min(win.end, c + (b - c) * factor);
    if (hi - lo < 10) return;
    view.x = hi - lo > (win.end - win.start) * 0.999 ? null : [lo, hi];
    if (view.x === null) view.y = null;
    redraw();
  }
  function pan(share) {
    const win = DATA.windows[view.window];
    if (!view.x) return;
    const step = clamp(share * (view.x[1] - view.x[0]), win.start - view.x[0], win.end - view.x[1]);
    view.x = [view.x[0] + step, view.x[1] + step];
    redraw();
  }
  function brush(f, mx, dy, panel, gap, count) {
    let from = null, box = null;
    const at = (e) => { const r = f.svg.getBoundingClientRect(); return [(e.clientX - r.left) * f.width / r.width, (e.clientY - r.top) * f.height / r.height]; };
    const bounds = (p) => {
      const row = clamp(Math.floor((from[1] - f.y0) / (panel + gap)), 0, count - 1), y0 = f.y0 + row * (panel + gap);
      const tall = Math.abs(p[1] - from[1]) > 24;  // a flat stroke means "this time, all lanes"
      const ys = tall ? [from[1], p[1]].map((v) => clamp(v, y0, y0 + panel)).sort((a, b) => a - b) : [y0, y0 + panel];
      const xs = [from[0], p[0]].map((v) => clamp(v, f.x0, f.x1)).sort((a, b) => a - b);
      return { xs, ys, y0 };
    };
    f.svg.addEventListener("pointerdown", (e) => {
      if (e.button !== 0 || e.pointerType === "touch") return;
      from = at(e);
      f.svg.setPointerCapture(e.pointerId);
      box = el("rect", { class: "brush", width: 0, height: 0 }, f.svg);
    });
    f.svg.addEventListener("pointermove", (e) => {
      if (!from) return;
      const { xs, ys } = bounds(at(e));
      for (const [k, v] of [["x", xs[0]], ["width", xs[1] - xs[0]], ["y", ys[0]], ["height", ys[1] - ys[0]]]) box.setAttribute(k, v);
    });
    f.svg.addEventListener("pointerup", (e) => {
      if (!from) return;
      const { xs, ys, y0 } = bounds(at(e));
      from = null;
      box.remove();
      if (xs[1] - xs[0] < 6) return;
      const my = scale(dy[0], dy[1], y0 + panel, y0);
      view.x = [mx.invert(xs[0]), mx.invert(xs[1])];
      view.y = [my.invert(ys[1]), my.invert(ys[0])];
      redraw();
    });
    f.svg.addEventListener("dblclick", resetZoom);
    f.svg.addEventListener("wheel", (e) => {
      if (!e.ctrlKey && !e.metaKey) return;  // a bare wheel scrolls the page
      e.preventDefault();
      zoom(e.deltaY > 0 ? 1.25 : 0.8, mx.invert(clamp(at(e)[0], f.x0, f.x1)));
    }, { passive: false });
    f.svg.addEventListener("keydown", (e) => {
      const act = { "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1 / 0.6), 0: resetZoom,
        ArrowLeft: () => pan(-0.25), ArrowRight: () => pan(0.25) }[e.key];
      if (act) { e.preventDefault(); act(); document.querySelector("#gantt svg").focus(); }
    });
  }
  function resetZoom() { view.x = view.y = null; redraw(); }
  // Buttons of which one is pressed.
  function choice(bar, name, options, choose) {
    const segment = html("div", "segment", bar);
    segment.setAttribute("role", "group");
    segment.setAttribute("aria-label", name);
    options.forEach((option, k) => {
      const button = html("button", "", segment, option);
      button.setAttribute("aria-pressed", String(k === 0));
      button.addEventListener("click", () => {
        [...segment.children].forEach((b, j) => b.setAttribute("aria-pressed", String(j === k)));
        choose(k);
      });
    });
  }
  function ganttControls() {
    const bar = document.getElementById("gantt-controls");
    if (!bar) return;
    choice(bar, "Window", DATA.windows.map((win) => win.title), (k) => {
      Object.assign(view, { window: k, x: null, y: null });
      redraw();
    });
    for (const [text, label, act] of [["+", "Zoom in", () => zoom(0.6)], ["−", "Zoom out", () => zoom(1 / 0.6)],
      ["◂", "Earlier", () => pan(-0.5)], ["▸", "Later", () => pan(0.5)], ["Reset", "Reset the zoom", resetZoom]]) {
      const button = html("button", "tool", bar, text);
      button.setAttribute("aria-label", label);
      button.addEventListener("click", act);
    }
    const scaleBar = document.getElementById("gantt-scale");
    html("span", "", scaleBar, "Colour: how long the job waited");
    WAIT_NAMES.forEach((name, k) => {
      const item = html("span", "", scaleBar);
      html("span", "dot", item).style.setProperty("--c", `var(--w${k})`);
      item.append(name);
    });
  }

  // Tables and legend --------------------------------------------------------------------------------------------
  function sortable(table) {
    const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
    heads.forEach((th, k) => {
      const text = th.textContent, hint = th.title;
      th.textContent = "";
      const button = html("button", "", th, text);
      if (hint) button.title = hint;
      button.type = "button";
      button.addEventListener("click", () => {
        const up = th.getAttribute("aria-sort") !== "ascending";
        for (const h of heads) h.removeAttribute("aria-sort");
        th.setAttribute("aria-sort", up ? "ascending" : "descending");
        const value = (row) => { const c = row.cells[k], v = c.dataset.value; return v === undefined ? c.textContent.trim() : v === "" ? NaN : Number(v); };
        const order = (a, b) => {
          const x = value(a), y = value(b);
          if (typeof x === "string") return up ? x.localeCompare(y) : y.localeCompare(x);
          if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);  // absent values stay at the end
          return up ? x - y : y - x;
        };
        body.append(...[...body.rows].sort(order));
      });
    });
  }
  function legend() {
    const bar = document.getElementById("legend");
    if (!bar) return;
    const chips = RUNS.map((run, i) => {
      const chip = html("button", "chip", null);
      html("span", "dot", chip).style.setProperty("--c", colour(i));
      chip.append(run.label);
      chip.title = "Click to hide or show; Shift-click to show only this one";
      chip.addEventListener("click", (e) => {
        if (e.shiftKey) {
          const alone = visible().length === 1 && !hidden.has(i);
          RUNS.forEach((_, j) => (alone || j === i ? hidden.delete(j) : hidden.add(j)));
        } else if (!hidden.delete(i)) {
          hidden.add(i);
          if (hidden.size === RUNS.length) hidden.clear();
        }
        chips.forEach((c, j) => c.setAttribute("aria-pressed", String(!hidden.has(j))));
        redraw();
      });
      chip.setAttribute("aria-pressed", "true");
      return chip;
    });
    bar.prepend(...chips);
  }

  // Wiring -------------------------------------------------------------------------------------------------------
  function redraw() { hideTip(); for (const draw of charts) draw(); }
  function add(id, draw, spec) {
    const host = document.getElementById(id);
    if (host) charts.push(() => draw(host, spec));
  }
  const summary = (values, read) => RUNS.map((run, i) => `${run.label}: ${read(values[i])}`).join("; ");
  add("cdf", lines, { title: "Cumulative distribution of waits", x: DATA.cdf.x, ys: DATA.cdf.y, log: true, ymax: 1, height: 270,
    desc: `Share of jobs that waited at most one hour. ${summary(DATA.cdf.y, (ys) => percent(ys[Math.max(0, DATA.cdf.x.findIndex((x) => x > HOUR) - 1)]))}`,
    ticks: (lo, hi) => [WAIT_TICKS.filter((t) => t >= lo * 0.999 && t <= hi * 1.001), duration],
    xlabel: "Wait (logarithmic)", yformat: (v) => `${Math.round(100 * v)} %`,
    xread: (x) => `Waited at most ${duration(x)}`, yread: percent });
  add("size", boxes, { title: "Bounded slowdown by job size", labels: DATA.size.labels, cells: DATA.size.cells, unit: DATA.unit, height: 270,
    desc: `Quartiles and 95th percentile of the bounded slowdown in ${DATA.size.labels.length} classes of job size.` });
  const bin = duration(DATA.time.x[1] - DATA.time.x[0]);
  add("utilisation", lines, { title: "Utilisation over time", x: DATA.time.x, ys: DATA.time.used, strips: true, thin: true, height: 200,
    ymax: DATA.usedIsShare ? 1 : undefined, ticks: timeTicks,
    desc: RUNS.map((run) => `${run.label}: ${run.utilisation}`).join("; "),
    yformat: DATA.usedIsShare ? (v) => `${Math.round(100 * v)} %` : brief, yread: DATA.usedIsShare ? percent : brief,
    note: (i) => DATA.runs[i].utilisation,
    xread: (t) => `${instant(t)} (mean of ${bin})` });
  add("queue", lines, { title: "Queue length over time", x: DATA.time.x, ys: DATA.time.queue, strips: true, thin: true, height: 200,
    desc: RUNS.map((run) => `${run.label}: ${run.queue}`).join("; "), ticks: timeTicks,
    yformat: brief, yread: (v) => `${brief(v)} jobs`, note: (i) => DATA.runs[i].queue,
    xread: (t) => `${instant(t)} (mean of ${bin})` });
  add("gantt", gantt, { title: "Gantt chart", desc: `Jobs as rectangles: time across, ${DATA.unit} up; the colour tells how long the job waited. The table of metrics above holds the totals.` });
  function start() {
    legend();
    ganttControls();
    document.querySelectorAll("table.sortable").forEach(sortable);
    redraw();
    let width = innerWidth, pending = 0;
    addEventListener("resize", () => {
      if (innerWidth === width) return;  // a phone's address bar comes and goes
      width = innerWidth;
      cancelAnimationFrame(pending);
      pending = requestAnimationFrame(redraw);
    });
  }
  return { DATA, RUNS, HOUR, visible, colour, clamp, el, html, number, brief, percent, duration, instant, scale,
    niceTicks, logTicks, timeTicks, showTip, hideTip, frame, yAxis, xAxis, lines, sortable, choice, redraw, add, summary, bin,
    start };
})();
