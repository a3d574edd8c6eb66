// Cameras: the live picture, lines and zones drawn on it, violations with their evidence.
import { ask, every, fetchAs, role, unlessSilent } from "./api.js";

const $ = (id) => document.getElementById(id);
const COLOURS = { line: "#ffd400", lane: "#3fa7ff", box: "#ff5a4d", crossing: "#dddddd", forbidden: "#ff5a4d" };
// What is not streamed is asked for so seldom that a page stays far below 100 requests a minute: 4 + 4 x 4 of them.
const ROWS_EVERY_MS = 15000, VIOLATIONS_EVERY_MS = 15000;
const state = { id: "", abort: null, picture: null, site: null, draft: null, points: [], shown: false };
let say = () => {};

const cell = (row, content) => { const c = row.insertCell(); c.append(content ?? ""); return c; };
const button = (text, act, label) => { const b = document.createElement("button"); b.textContent = text; b.onclick = act; if (label) b.ariaLabel = label; return b; };

export function cameras(tell) {
  say = tell;
  $("camera-add").onsubmit = async (e) => {
    e.preventDefault();
    const form = new FormData(e.target);
    await attempt(async () => {
      await ask("/api/v1/cameras", { id: form.get("id"), source: form.get("source"), detector: form.get("detector"), repeat: form.get("repeat") === "on", street: form.get("street") });
      e.target.reset();
      await refresh();
    }, "the camera is added");
  };
  $("draw-line").onclick = () => draw("line");
  $("draw-zone").onclick = () => draw($("zone-kind").value);
  $("draw-done").onclick = finish;
  $("draw-cancel").onclick = () => { state.points = []; state.draft = null; paint(); };
  $("site-clear").onclick = () => change((site) => ({ ...site, lines: [], zones: [], forbidden_turns: [] }), "lines and zones are removed");
  $("camera-view").onclick = (e) => {
    if (!state.draft || !state.picture) return;
    const box = e.target.getBoundingClientRect(), [w, h] = size();
    state.points.push([((e.clientX - box.left) / box.width) * w, ((e.clientY - box.top) / box.height) * h].map((v) => Math.round(v * 10) / 10));
    if (state.draft === "line" && state.points.length === 2) finish();
    paint();
  };
  every(ROWS_EVERY_MS, async () => { if (state.shown) await rows(); });
  addEventListener("keydown", (e) => { if (state.draft && e.key === "Escape") $("draw-cancel").click(); if (state.draft && e.key === "Enter") finish(); });
}

export function show(shown) {
  state.shown = shown;
  if (shown) refresh().catch((error) => say(error.message, true));
  else watch("");
}

export function heard(id, news) {
  if (!state.shown) return;
  if (news.kind?.startsWith("violation.")) {
    const wait = Math.max(2000, (state.asked ?? 0) + VIOLATIONS_EVERY_MS - Date.now());  // not for each one of many
    state.soon ??= setTimeout(() => { state.soon = null; violations().catch(() => {}); }, wait);
  }
  if (news.kind === "camera.frame" && id === state.id) figures(news);
}

async function attempt(work, done) {
  try { await work(); if (done) say(done); } catch (error) { say(error.message, true); }
}

async function refresh() {
  const list = await rows();
  if (!state.id && list.length) watch(list[0].id);
  await violations();
}

async function rows() {
  const list = await ask("/api/v1/cameras"), body = $("camera-rows");
  body.replaceChildren();
  for (const s of list) {
    const row = body.insertRow();
    row.className = s.id === state.id ? "chosen" : "";
    cell(row, button(s.id, () => watch(s.id), `Watch ${s.id}`));
    [s.state, `${s.rate_hz.toFixed(1)} /s`, s.latency_p95_ms === null ? "–" : `${s.latency_p95_ms.toFixed(0)} ms`, s.dropped, s.tracks, s.violations, s.fault].forEach((text) => cell(row, String(text)));
    const orders = cell(row, "");
    orders.className = "engineer";
    orders.hidden = !["engineer", "admin"].includes(role());
    orders.append(
      button(s.running ? "Stop" : "Start", () => attempt(async () => { await ask(`/api/v1/cameras/${s.id}/${s.running ? "stop" : "start"}`, {}); await refresh(); })),
      button("Remove", () => attempt(async () => { await ask(`/api/v1/cameras/${s.id}`, undefined, "DELETE"); if (state.id === s.id) watch(""); await refresh(); })),
    );
  }
  $("camera-none").hidden = list.length > 0;
  return list;
}

async function watch(id) {
  state.abort?.abort();
  const abort = new AbortController(), { signal } = abort;
  Object.assign(state, { id, abort, picture: null, site: null, draft: null, points: [] });
  $("camera-stage").hidden = !id;
  if (!id) return;
  const site = await ask(`/api/v1/cameras/${id}/site`).catch(() => null);
  if (!signal.aborted) state.site = site;
  while (!signal.aborted) {
    try {
      for await (const jpeg of frames(`/api/v1/cameras/${id}/view`, signal)) {
        const picture = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
        if (signal.aborted) return;
        state.picture = picture;
        paint();
      }
    } catch (error) {
      if (!signal.aborted) say(error.message, true);
    }
    await new Promise((r) => setTimeout(r, 1000));
  }
}

// The frames of an MJPEG answer, one after the other.
async function* frames(path, signal) {
  const reader = (await unlessSilent(fetchAs(path, { signal }))).body.getReader(), text = new TextDecoder("latin1");
  let bytes = new Uint8Array(0);
  try {
    for (;;) {
      const { value, done } = await unlessSilent(reader.read());
      if (done) return;
      const more = new Uint8Array(bytes.length + value.length);
      more.set(bytes); more.set(value, bytes.length);
      bytes = more;
      for (;;) {
        const head = text.decode(bytes.subarray(0, 200)), end = head.indexOf("\r\n\r\n"), length = Number(/Content-Length: (\d+)/.exec(head)?.[1]);
        if (end < 0 || !length || bytes.length < end + 4 + length + 2) break;
        yield bytes.slice(end + 4, end + 4 + length);
        bytes = bytes.slice(end + 4 + length + 2);
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

const size = () => state.site?.size?.[0] ? state.site.size : [state.picture.width, state.picture.height];

function paint() {
  const canvas = $("camera-view"), ctx = canvas.getContext("2d");
  if (!state.picture) return;
  [canvas.width, canvas.height] = [state.picture.width, state.picture.height];
  ctx.drawImage(state.picture, 0, 0);
  const scale = state.picture.width / size()[0];
  ctx.lineWidth = 2;
  const way = (points, colour, name, close) => {
    ctx.strokeStyle = ctx.fillStyle = colour;
    ctx.beginPath();
    points.forEach(([x, y], i) => ctx[i ? "lineTo" : "moveTo"](x * scale, y * scale));
    if (close) ctx.closePath();
    ctx.stroke();
    points.forEach(([x, y]) => ctx.fillRect(x * scale - 3, y * scale - 3, 6, 6));
    if (name) ctx.fillText(name, points[0][0] * scale + 6, points[0][1] * scale - 6);
  };
  ctx.font = "12px sans-serif";
  for (const z of state.site?.zones ?? []) way(z.px, COLOURS[z.kind ?? "lane"], z.name, true);
  for (const l of state.site?.lines ?? []) way(l.px, COLOURS.line, l.name);
  if (state.points.length) way(state.points, COLOURS[state.draft], "", false);
}

function draw(kind) {
  Object.assign(state, { draft: kind, points: [] });
  say(kind === "line" ? "click the line's two ends on the picture" : "click the corners, then Done (or Enter)");
}

function finish() {
  const { draft, points } = state;
  if (!draft || points.length < (draft === "line" ? 2 : 3)) return say("more points are needed", true);
  Object.assign(state, { draft: null, points: [] });
  const taken = new Set([...(state.site?.lines ?? []), ...(state.site?.zones ?? [])].map((x) => x.name));
  let name = $("draw-name").value.trim(), k = 1;
  if (!name) do name = `${draft} ${k++}`; while (taken.has(name));
  $("draw-name").value = "";
  return change((site) => (draft === "line" ? { ...site, lines: [...(site.lines ?? []), { name, px: points }] } : { ...site, zones: [...(site.zones ?? []), { name, kind: draft, px: points }] }), `${name} is in force`);
}

// Of the site as it is now: another page may have changed it, and what could not be read is not written over.
function change(how, done) {
  const { id } = state, drawn = size();
  return attempt(async () => {
    const site = how({ ...(await ask(`/api/v1/cameras/${id}/site`)), size: drawn });
    await ask(`/api/v1/cameras/${id}/site`, site, "PUT");
    if (id === state.id) state.site = site;
    paint();
  }, done);
}

function figures(news) {
  const body = $("camera-figures"), m = news.measures;
  body.replaceChildren();
  if (!m) return;
  const row = (...texts) => { const r = body.insertRow(); texts.forEach((t) => cell(r, t)); };
  row("tracks now", String(news.tracks.length));
  const speeds = news.tracks.map((t) => t.speed_kmh).filter((v) => v !== null);
  row("mean speed", speeds.length ? `${(speeds.reduce((a, b) => a + b, 0) / speeds.length).toFixed(0)} km/h` : "no calibration");
  const sum = (of) => Object.values(of).reduce((a, b) => a + b, 0);
  for (const [name, l] of Object.entries(m.lines)) row(`line ${name}`, `${sum(l.in)} in, ${sum(l.out)} out${l.flow_veh_h === null ? "" : `, ${l.flow_veh_h.toFixed(0)} veh/h`}`);
  for (const [name, z] of Object.entries(m.lanes)) row(`lane ${name}`, `${z.vehicles} vehicles, ${z.queue_veh} stopped, ${z.congestion}, ${(100 * z.occupancy).toFixed(0)} % occupied`);
}

async function violations() {
  state.asked = Date.now();
  const [list, trends, spots, summary] = await Promise.all(["?limit=50", "/trends", "/hotspots", "/summary"].map((p) => ask(`/api/v1/violations${p}`)));
  const body = $("violation-rows");
  body.replaceChildren();
  for (const v of list) {
    const row = body.insertRow();
    const speed = v.data.speed_kmh ? `${v.data.speed_kmh.toFixed(0)} km/h${v.data.standard_error_kmh ? ` ± ${v.data.standard_error_kmh.toFixed(1)}` : ""}` : "";
    [new Date(v.at).toLocaleString(), v.device, v.rule.replaceAll("_", " "), v.data.class, speed, v.confidence.toFixed(2), v.state + (v.reviewed_by ? ` (${v.reviewed_by})` : "")].forEach((text) => cell(row, text ?? ""));
    cell(row, v.images.length ? button("Show", () => evidence(v), `Evidence of ${v.rule} at ${v.device}`) : "–").hidden = role() === "viewer";
  }
  $("violation-sum").textContent = summary.n ? `${summary.n} in all: ${Object.entries(summary.rules).map(([r, n]) => `${n} ${r.replaceAll("_", " ")}`).join(", ")}` : "none so far";
  const spotted = $("hotspot-rows");
  spotted.replaceChildren();
  for (const s of spots) { const row = spotted.insertRow(); [s.device, s.n, `${(100 * s.share).toFixed(0)} %`, `${s.busiest_hour}:00 UTC`].forEach((t) => cell(row, String(t))); }
  bars($("trend"), trends.by_hour_of_day);
}

async function evidence(v) {
  const box = $("evidence");
  box.querySelector("h3").textContent = `${v.rule.replaceAll("_", " ")}, ${v.device}, ${new Date(v.at).toLocaleString()}`;
  const shots = box.querySelector("div");
  shots.replaceChildren();
  box.showModal();
  for (let k = 0; k < v.images.length; k++) {
    const image = document.createElement("img");
    image.alt = `${(v.images[k] - v.data.at_s).toFixed(1)} s from the violation`;
    image.src = URL.createObjectURL(await (await fetchAs(`/api/v1/violations/${v.id}/images/${k}`)).blob());
    shots.append(image);
  }
  box.querySelector("p").textContent = `${v.state === "open" ? "Candidate for review, open" : `${v.state} by ${v.reviewed_by}`}${v.note ? `: ${v.note}` : ""}`;
  box.querySelector("form").onsubmit = (e) => {
    const verdict = e.submitter?.value, note = e.target.note.value;
    e.target.reset();
    if (!verdict) return;
    attempt(async () => { await ask(`/api/v1/violations/${v.id}/review`, { state: verdict, note }); await violations(); }, `the candidate is ${verdict}`);
  };
  box.querySelector("pre").textContent = JSON.stringify({ ...v.data, path: undefined, seal: v.seal }, null, 1);
}

function bars(canvas, counts) {
  const ctx = canvas.getContext("2d"), width = (canvas.width = canvas.clientWidth * devicePixelRatio || 600), height = (canvas.height = 120 * devicePixelRatio);
  const most = Math.max(...counts, 1), style = getComputedStyle(document.documentElement), step = width / 24;
  ctx.font = `${10 * devicePixelRatio}px sans-serif`;
  counts.forEach((n, hour) => {
    const h = (n / most) * (height - 30 * devicePixelRatio);
    ctx.fillStyle = style.getPropertyValue("--brand");
    ctx.fillRect(hour * step + 2, height - 14 * devicePixelRatio - h, step - 4, h);
    ctx.fillStyle = style.color;
    if (hour % 3 === 0) ctx.fillText(String(hour), hour * step + 2, height - 2);
    if (n) ctx.fillText(String(n), hour * step + 2, height - 16 * devicePixelRatio - h);
  });
}
