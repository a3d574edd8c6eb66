// Curves over time: Headway and baseline in one picture each.
import uPlot from "/static/vendor/uPlot.esm.js";

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class Curves {
  constructor(element, title, unit, names = ["Headway", "Baseline"]) {
    this.element = element;
    this.data = [[], ...names.map(() => [])];
    const axis = { stroke: () => style("--soft"), grid: { stroke: () => style("--line"), width: 1 }, ticks: { stroke: () => style("--line") } };
    const colours = ["#0b8f8f", "#d0662c", "#5b6bd6", "#b0417f", "#6d8c1f"];
    this.plot = new uPlot({
      title, width: element.clientWidth - 10 || 400, height: 230,
      scales: { x: { time: false } },
      axes: [{ ...axis, values: (_, ticks) => ticks.map((s) => `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`) }, { ...axis, label: unit, labelSize: 18, size: 50 }],
      series: [{ label: "time", value: (_, s) => (s == null ? "" : `${s.toFixed(0)} s`) },
        ...names.map((label, i) => ({ label, stroke: colours[i % colours.length], width: 2, spanGaps: true, value: (_, v) => (v == null ? "" : v.toFixed(1)) }))],
    }, this.data, element);
    new ResizeObserver(() => this.plot.setSize({ width: element.clientWidth - 10, height: 230 })).observe(element);
  }

  // Adds value `y` of curve `which` at `x`; curves share the times, to whole buckets of `bucket` seconds.
  add(which, x, y, bucket = 5) {
    const at = Math.floor(x / bucket) * bucket, times = this.data[0];
    let i = times.length;
    while (i > 0 && times[i - 1] > at) i--;
    if (i === 0 || times[i - 1] !== at) {
      times.splice(i, 0, at);
      this.data.slice(1).forEach((curve) => curve.splice(i, 0, null));
      i += 1;
    }
    this.data[which + 1][i - 1] = y;
    if (times.length > 4000) this.data.forEach((column) => column.shift());
  }

  draw() { this.plot.setData(this.data); }

  clear() { this.data.forEach((column) => { column.length = 0; }); this.draw(); }

  canvas() { return this.plot.ctx.canvas; }
}

// Colours of one signal of each junction over time: time goes to the right, a row a junction.
export class Strip {
  constructor(canvas, span = 300) {
    Object.assign(this, { canvas, span, rows: [], names: [] });
  }

  add(at, colours, names) {
    this.names = names;
    if (this.rows.length && at <= this.rows.at(-1)[0]) return;
    this.rows.push([at, colours]);
    while (this.rows.length && this.rows[0][0] < at - this.span) this.rows.shift();
  }

  clear() { this.rows = []; }

  draw() {
    const { canvas, rows, names, span } = this, ratio = devicePixelRatio || 1, row = 20 * ratio;
    if (!canvas.clientWidth) return;
    canvas.width = canvas.clientWidth * ratio;
    canvas.height = Math.max(names.length, 1) * row;
    canvas.style.height = `${canvas.height / ratio}px`;
    const ctx = canvas.getContext("2d"), left = 150 * ratio, wide = canvas.width - left;
    const light = { "-2": "#e6b422", "-1": "#c9473c", 1: "#c9473c", 2: "#e6b422", 3: "#8fc56a", 4: "#2fa866" };
    ctx.font = `${11 * ratio}px system-ui`;
    ctx.textBaseline = "middle";
    names.forEach((n, j) => {
      ctx.fillStyle = style("--soft");
      ctx.fillText(n.id.length > 22 ? `${n.id.slice(0, 21)}…` : n.id, 6 * ratio, (j + 0.5) * row);
    });
    if (!rows.length) return;
    const end = rows.at(-1)[0], x = (t) => left + wide * (1 - (end - t) / span);
    rows.forEach(([t, colours], i) => {
      const next = rows[i + 1]?.[0] ?? t;
      colours.forEach((c, j) => {
        if (light[c]) { ctx.fillStyle = light[c]; ctx.fillRect(x(t), j * row + 3 * ratio, x(next) - x(t) + 1, row - 6 * ratio); }
      });
    });
  }
}
