import { alerts, changed as alertsChanged, choose as chooseAlerts } from "./alerts.js";
import { ask, every, listen, role, setToken, takeToken } from "./api.js";
import { cameras, heard, show as showCameras } from "./cameras.js";
import { Curves, Strip } from "./charts.js";
import { StreetMap } from "./map.js";
import { models, show as showModels, showStreetNames } from "./models.js";
import { inWords, lines } from "./words.js";

const $ = (id) => document.getElementById(id);
const RANK = ["viewer", "operator", "engineer", "admin"];
const LOOK_FOR_STREETS_MS = 10_000;
const MOST_APART_S = 30; // simulated, of two streets that are compared
const ORDER_WITHIN_MS = 3000; // after it a control shows what is in force, also where its order was refused
const orderedUntil = new Map(); // by control
const latest = {}, maps = {}, sums = {};
let charts = {}, names = [], strip = null, main = "headway", shown = [], known = [];
window.headway = { latest, maps };  // for tests and the curious

function say(text, bad = false) {
  $("said").textContent = text;
  $("said").style.color = bad ? "var(--bad)" : "";
}

async function order(path, body, done) {
  try {
    const answer = await ask(`/api/v1/engine/streets/${main}/${path}`, body);
    say(done ?? answer.detail);
  } catch (error) {
    orderedUntil.clear();
    if (latest[main]) showControls(latest[main]);  // nothing else may come that puts it right
    say(error.message, true);
  }
}

function tabs() {
  const all = [...document.querySelectorAll("[role=tab]")];
  const choose = (tab) => {
    for (const t of all) {
      t.setAttribute("aria-selected", t === tab);
      t.tabIndex = t === tab ? 0 : -1;
      $(t.getAttribute("aria-controls")).hidden = t !== tab;
    }
    if (tab.id === "tab-system") { showSystem(); showSources(); }
    showCameras(tab.id === "tab-cameras");
    if (tab.id === "tab-models") showModels();
    if (tab.id === "tab-alerts") chooseAlerts();
  };
  all.forEach((tab, i) => {
    tab.onclick = () => choose(tab);
    tab.onkeydown = (e) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
      if (step) { const to = all[(i + step + all.length) % all.length]; to.focus(); choose(to); }
    };
  });
}

function theme() {
  const set = (dark) => {
    document.documentElement.classList.toggle("dark", dark);
    localStorage.setItem("headway-dark", dark ? "1" : "");
    Object.values(maps).forEach((m) => m.repaint());
    Object.values(charts).forEach((c) => c.draw());
  };
  const kept = localStorage.getItem("headway-dark");
  set(kept === null ? matchMedia("(prefers-color-scheme: dark)").matches : kept === "1");
  $("theme").onclick = () => set(!document.documentElement.classList.contains("dark"));
  addEventListener("keydown", (e) => { if (e.key === "d" && !/INPUT|SELECT/.test(e.target.tagName)) $("theme").click(); });
}

function rights() {
  const mine = RANK.indexOf(role());
  for (const name of ["operator", "engineer"])
    for (const element of document.querySelectorAll(`.${name}`)) {
      element.hidden = mine < RANK.indexOf(name);
    }
}

const FIGURES = [
  ["Simulated time, s", (s) => s.time_s - s.begin_s, 0, 0],
  ["Vehicles near signals", (s) => s.vehicles, 0, 0],
  ["Stopped vehicles", (s) => s.stopped, 0, -1],
  ["Stopped, mean so far", (s) => sums[s.street][1] / Math.max(sums[s.street][0], 1), 1, -1],
  ["Longest wait, mean of junctions, s", (s) => mean(s.junctions.map((j) => j.longest_wait_s)), 1, -1],
  ["Longest wait, mean so far, s", (s) => sums[s.street][2] / Math.max(sums[s.street][0], 1), 1, -1],
  ["Safety events", (s) => s.interventions, 0, 0],
];
const mean = (list) => list.reduce((a, b) => a + b, 0) / Math.max(list.length, 1);

function showFigures() {
  const body = $("figures").tBodies[0];
  // otherwise what differs is the demand
  const other = maps.baseline && main !== "baseline" ? latest.baseline : undefined, street = latest[main];
  const comparable = other?.begin_s === street?.begin_s && Math.abs(other?.time_s - street?.time_s) <= MOST_APART_S;
  body.replaceChildren(...FIGURES.map(([name, of, digits, better]) => {
    const [a, b] = [other, street].map((s) => (s?.started ? of(s) : null));
    const row = document.createElement("tr");
    const change = better && comparable && a && b !== null ? (100 * (b - a)) / a : null;
    const cells = [name, a?.toFixed(digits) ?? "–", b?.toFixed(digits) ?? "–", change === null ? "" : `${change > 0 ? "+" : ""}${change.toFixed(0)} %`];
    row.append(...cells.map((text, i) => {
      const cell = document.createElement(i ? "td" : "th");
      cell.textContent = text;
      if (i === 3 && change !== null) cell.className = change * better > 0 ? "better" : "worse";
      return cell;
    }));
    return row;
  }));
}

function showJunctions() {
  const street = latest[main];
  if (!street?.started || $("junctions").hidden) return;
  const body = $("junction-rows");
  const seen = new Map([...body.rows].map((row) => [row.dataset.id, row]));
  for (const j of street.junctions) {
    let row = seen.get(j.id);
    if (!row) {
      row = body.insertRow();
      row.dataset.id = j.id;
      for (let k = 0; k < 6; k++) row.insertCell();
      row.append(orders(j.id));
      rights();
    }
    [j.fault ? `${j.id} (fault: ${j.fault}, red)` : j.id, j.vehicles, j.congested?.length ? `${j.queue} (congested)` : j.queue, `${j.longest_wait_s.toFixed(0)} s`, j.confidence.toFixed(2), ordered(j.order, street)].forEach((text, k) => { row.cells[k].textContent = text; });
    row.cells[4].title = Object.entries(j.factors ?? {}).map(([name, value]) => `${name} ${value.toFixed(2)}`).join("\n");
    seen.delete(j.id);
  }
  seen.forEach((row) => row.remove());
}

// An operator's order that is in force; times as above the maps, from the begin on.
function ordered(order, street) {
  if (!order) return "";
  return `${order.order}${order.stage === null ? "" : ` ${order.stage}`} until ${(order.until_s - street.begin_s).toFixed(0)} s, by ${order.by}`;
}

function orders(id) {
  const cell = document.createElement("td");
  cell.className = "operator";
  const serves = names.find((n) => n.id === id)?.serves ?? [""], path = `junctions/${encodeURIComponent(id)}/override`;
  const stage = document.createElement("select");
  stage.ariaLabel = `Stage of ${id}`;
  stage.style.maxWidth = "14em";
  serves.forEach((who, k) => stage.add(new Option(who ? `stage ${k}: ${who}` : `stage ${k}`, k)));  // as the API and the events number them
  const button = (text, act) => { const b = document.createElement("button"); b.textContent = text; b.onclick = act; return b; };
  cell.append(
    button("Hold", () => order(path, { order: "hold", lasts_s: 60 })), stage,
    button("Show", () => order(path, { order: "stage", stage: Number(stage.value), lasts_s: 60 })),
    button("Emergency", () => order(`emergency/${encodeURIComponent(id)}`, { order: "stage", stage: Number(stage.value), lasts_s: 90 })),
    button("Flash", () => order(path, { order: "flash", lasts_s: 60 })), button("Release", () => order(path, { order: "release" })),
    button("Reset", () => order(path, { order: "reset" })),
  );
  return cell;
}

function showAlert(street, news) {
  heard(street, news);
  alertsChanged();
  const item = document.createElement("li");
  const data = news.data ?? news;
  item.className = data.level ?? news.severity ?? (news.kind?.startsWith("alert") ? "warning" : "");
  const { kind: _kind, number: _number, ...told } = data, what = inWords(told);
  item.textContent = `${news.at_s?.toFixed(0) ?? ""} s  ${street}  ${news.state === "open" ? "candidate for review: " : ""}${news.kind} ${news.junction ?? ""}  ${what}`;
  const list = $("alerts");
  list.prepend(item);
  while (list.children.length > 30) list.lastChild.remove();
}

function showEvent(street, news) {
  if (news.kind?.startsWith("monitoring.")) return;  // figures, every two seconds
  const item = document.createElement("li");
  item.textContent = `${news.at_s?.toFixed(0) ?? ""} s  ${street}  ${news.kind} ${news.junction ?? ""}  ${inWords(news.data ?? {})}`;
  $("events").prepend(item);
  while ($("events").children.length > 100) $("events").lastChild.remove();
}

async function showSystem() {
  try {
    const info = await ask("/system/info"), s = latest[main] ?? {};
    const street = { "tick ms": s.tick_ms, "jitter p99 ms": s.jitter_p99_s === undefined ? null : s.jitter_p99_s * 1e3, overruns: s.overruns, mode: s.mode, "decided by": s.source, "last checkpoint s": s.checkpoint_s, trouble: s.trouble || "none" };
    $("info").replaceChildren(...lines({ ...street, ...info }).map(([name, text]) => {
      const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
      dt.textContent = name; dd.textContent = text;
      const line = document.createElement("div");
      line.append(dt, dd);
      return line;
    }));
  } catch (error) {
    say(error.message, true);
  }
}

async function showSources() {
  if ($("system").hidden) return;
  let found = [];
  try {
    found = await ask(`/api/v1/observations/sources?street=${main}`);
  } catch {  // a server without streets has none
  }
  $("sources").hidden = !found.length;
  $("source-none").hidden = found.length > 0;
  $("source-rows").replaceChildren(...found.map((s) => {
    const low = Object.entries(s.factors).filter(([, v]) => v < 0.95).map(([name, v]) => `${name} ${v.toFixed(2)}`);
    const cells = [s.source, s.condition, s.weight.toFixed(2), low.join(", "), s.taken, s.refused, s.cut, s.latency_p99_ms === null ? "–" : `${s.latency_p99_ms.toFixed(1)} ms`];
    const row = document.createElement("tr");
    row.append(...cells.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
    return row;
  }));
}

function hear(street, news) {
  if (news.kind === "camera.frame") return heard(street, news);
  const before = latest[street];
  latest[street] = news;
  if (street === main) showControls(news);
  if (before && maps[street] && (news.scenario !== before.scenario || news.time_s < before.time_s - 60)) begin(street);
  if (!maps[street] || !news.started) return;
  if (news.scene) maps[street].setScene(news.scene, news.colours);
  if (street === main) strip.add(news.time_s - news.begin_s, names.map((n) => Math.max(...news.colours.slice(n.first, n.first + 1))), names);
  const standing = news.status === "paused" ? `, paused by ${news.status_by}` : "";
  $(`time-${placeOf(street)}`).textContent = `${news.controller}, ${(news.time_s - news.begin_s).toFixed(0)} s${standing}`;
  if (!before || Math.floor(news.time_s / 5) !== Math.floor(before.time_s / 5)) {
    const which = shown.indexOf(street), at = news.time_s - news.begin_s, waited = mean(news.junctions.map((j) => j.longest_wait_s));
    const sum = sums[street];
    sum[0] += 1; sum[1] += news.stopped; sum[2] += waited;
    charts.stopped.add(which, at, news.stopped);
    charts.wait.add(which, at, waited);
    if (street === main) news.junctions.slice(0, 5).forEach((j, i) => charts.queue.add(i, at, j.queue));
    charts.time.add(which, at, news.vehicles);
  }
}

async function begin(street) {
  sums[street] = [0, 0, 0];
  Object.values(charts).forEach((c) => c.clear());
  strip.clear();
  const shapes = await ask(`/api/v1/engine/streets/${street}/map`);
  maps[street].setShapes(shapes);
  if (street === main) names = shapes.names;
}

// Where on the page a street is shown.
function placeOf(street) {
  return street === main ? "main" : "other";
}

function exports() {
  const save = (name, blob) => {
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  $("export-png").onclick = () => {
    const all = [...Object.values(charts).map((c) => c.canvas()), $("time-space")], whole = document.createElement("canvas");
    whole.width = Math.max(...all.map((c) => c.width));
    whole.height = all.reduce((h, c) => h + c.height, 0);
    const ctx = whole.getContext("2d");
    ctx.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--card");
    ctx.fillRect(0, 0, whole.width, whole.height);
    all.reduce((y, c) => (ctx.drawImage(c, 0, y), y + c.height), 0);
    whole.toBlob((blob) => save("headway-charts.png", blob));
  };
  const rows = () => charts.stopped.data[0].map((t, i) => ({ time_s: t, stopped_headway: charts.stopped.data[1][i], stopped_baseline: charts.stopped.data[2]?.[i], wait_headway_s: charts.wait.data[1][i], wait_baseline_s: charts.wait.data[2]?.[i] }));
  $("export-csv").onclick = () => {
    const list = rows(), head = Object.keys(list[0] ?? { time_s: 0 });
    save("headway.csv", new Blob([[head.join(","), ...list.map((r) => head.map((k) => r[k] ?? "").join(","))].join("\n") + "\n"], { type: "text/csv" }));
  };
  $("export-json").onclick = () => save("headway.json", new Blob([JSON.stringify({ streets: latest, series: rows() })], { type: "application/json" }));
}

// What is in force, also where somebody else ordered it; a control that is being used, or whose order is under way, stays as it is.
function showControls(street) {
  const put = (id, value) => {
    const control = $(id), of = typeof value === "boolean" ? "checked" : "value";
    if (control[of] === value) orderedUntil.delete(id);
    if (of === "value" && control === document.activeElement || Date.now() < (orderedUntil.get(id) ?? 0)) return;
    if (control.options && ![...control.options].some((o) => o.value === value)) control.add(new Option(value, value));
    control[of] = value;
  };
  const isPaused = street.status === "paused";
  $("pause").textContent = isPaused ? "Resume" : "Pause";
  $("pause").title = isPaused ? `paused by ${street.status_by}` : "The simulated time stands; the signals keep what they show.";
  put("optimise", street.controller !== "fixed");
  put("controller", street.controller);
  put("scenario", street.scenario);
  if (!street.started) return;
  put("cycle", String(street.cycle_s));
  put("speed-factor", String(street.speed_factor));
}

function controls(scenarios, controllers, street) {
  $("controller").replaceChildren(...controllers.map((c) => new Option(c, c, false, c === street.controller)));
  $("scenario").replaceChildren(...scenarios.map((s) => new Option(s, s, false, s === street.scenario)));
  showControls(street);
  for (const id of ["optimise", "cycle", "speed-factor", "controller", "scenario"]) $(id).addEventListener("change", () => orderedUntil.set(id, Date.now() + ORDER_WITHIN_MS));
  $("optimise").onchange = (e) => order("optimisation", { enabled: e.target.checked }, e.target.checked ? "optimisation is on: the controller that was chosen last decides" : "optimisation is off: fixed time");
  $("cycle").onchange = (e) => order("optimisation", { cycle_s: Number(e.target.value) }, `the optimisation cycle is ${e.target.value} s`);
  $("speed-factor").onchange = async (e) => {
    for (const s of shown) await ask(`/api/v1/engine/streets/${s}/optimisation`, { speed_factor: Number(e.target.value) }).catch((error) => say(error.message, true));
    say(`the speed factor is ${e.target.value}`);
  };
  $("pause").onclick = async () => {
    const act = latest[main]?.status === "paused" ? "resume" : "pause", done = [];
    for (const s of shown) await ask(`/api/v1/engine/streets/${s}/${act}`, undefined, "POST").then((answer) => done.push(answer.detail), (error) => done.push(error.message));
    say(done.join("; "));
  };
  $("controller").onchange = (e) => order("controller", { controller: e.target.value });
  $("scenario").onchange = async (e) => {
    for (const s of shown) await ask(`/api/v1/engine/streets/${s}/scenario`, { scenario: e.target.value }).catch((error) => say(error.message, true));
    say(`${e.target.value} begins; a large network takes some seconds`);
    setTimeout(() => shown.forEach(begin), 1500);
  };
}

// The street that is looked at: `asked`, else `headway`, else the first; beside it the same scenario under fixed time, where that runs.
function chooseStreet(states, asked) {
  const streets = known = states.map((s) => s.street), scenarioOf = (name) => states.find((s) => s.street === name)?.scenario;
  const choices = streets.filter((s) => s !== "baseline" || streets.length === 1);
  main = [asked, "headway", choices[0]].find((s) => choices.includes(s)) ?? "headway";
  if (asked && asked !== main) say(`There is no street ${asked} here, or not for these credentials.`, true);
  shown = [...new Set([main, "baseline"])].filter((s) => streets.includes(s) && scenarioOf(s) === scenarioOf(main));
  $("which").hidden = choices.length < 2;
  $("which-street").replaceChildren(...choices.map((s) => new Option(s, s, false, s === main)));
  $("which-street").onchange = (e) => { location.search = new URLSearchParams({ street: e.target.value }); };
}

// Streets that are processes of their own come and go.
async function lookForStreets() {
  const states = await ask("/api/v1/engine/state").catch((error) => (error.status === 404 ? [] : null)), now = states?.map((s) => s.street);
  if (!now || String(now) === String(known)) return;
  if (!known.length && now.length) location.reload();
  else if (shown.every((s) => now.includes(s))) {
    const before = shown;
    chooseStreet(states, main);
    shown = before;
    showStreetNames(now);
  }
}

function nameOf(street) {
  return street === "headway" ? "Headway" : street === "baseline" ? "Baseline" : street;
}

async function start() {
  const streets = await ask("/api/v1/engine/state").catch((error) => { if (error.status === 404) return []; throw error; });
  $("sign-in").hidden = true;
  if ($("tab-street").ariaSelected === "true") $("street").hidden = false;
  if (!streets.length) { $("tab-street").hidden = $("tab-junctions").hidden = true; $("tab-cameras").click(); }
  chooseStreet(streets, new URLSearchParams(location.search).get("street"));
  for (const s of shown) maps[s] = new StreetMap($(`map-${placeOf(s)}`));
  $("figure-other").hidden = shown.length < 2;
  $("figures").classList.toggle("alone", shown.length < 2);
  const curves = [nameOf(main), "Baseline"].slice(0, Math.max(shown.length, 1));
  $("name-main").textContent = $("head-main").textContent = nameOf(main);
  charts = {
    stopped: new Curves($("chart-stopped"), "Stopped vehicles", "vehicles", curves), wait: new Curves($("chart-wait"), "Longest wait, mean of the junctions", "s", curves),
    queue: new Curves($("chart-queue"), "Queues of the first five junctions", "vehicles", ["1", "2", "3", "4", "5"]), time: new Curves($("chart-time"), "Vehicles near signals", "vehicles", curves),
  };
  strip = new Strip($("time-space"));
  cameras(say);
  alerts(say, rights, streets.map((s) => s.street));
  models(say, rights);
  showStreetNames(known.length ? known : ["headway"]);  // a job may be for one that runs later
  rights();
  exports();
  for (const s of shown) await begin(s);
  for (const s of shown) {
    const past = await ask(`/api/v1/engine/streets/${s}/history`), first = streets.find((x) => x.street === s).begin_s ?? 0;
    past.time_s.forEach((t, i) => {
      charts.stopped.add(shown.indexOf(s), t - first, past.stopped[i]);
      charts.wait.add(shown.indexOf(s), t - first, past.wait_s[i]);
      charts.time.add(shown.indexOf(s), t - first, past.vehicles[i]);
      sums[s][0] += 1; sums[s][1] += past.stopped[i]; sums[s][2] += past.wait_s[i];
    });
    (await ask(`/api/v1/engine/streets/${s}/alerts`)).forEach((a) => showAlert(s, { kind: "alert.open", at_s: a.at_s, data: a }));
  }
  if (streets.length) controls(await ask("/api/v1/engine/scenarios"), await ask("/api/v1/engine/controllers"), streets.find((s) => s.street === main));
  const tell = (on, why, isOver) => {
    if (isOver) signInAgain(why);
    $("link").textContent = on ? "live" : why || "connection lost";
    $("link").className = `pill ${on ? "on" : "off"}`;
  };
  if (known.length === shown.length) listen("realtime", hear, tell);
  else {  // of many streets those that are looked at, and all cameras
    shown.forEach((street) => listen("realtime", hear, tell, { street }));
    listen("realtime", hear, undefined, { kinds: "camera.frame" });
  }
  listen("alerts", showAlert);
  listen("monitoring", showEvent);
  every(5000, showSources);
  every(LOOK_FOR_STREETS_MS, lookForStreets);
  setInterval(() => { showFigures(); showJunctions(); Object.values(charts).forEach((c) => c.draw()); strip.draw(); }, 500);
}

function signIn(error) {
  $("street").hidden = true;
  $("sign-in").hidden = false;
  $("sign-in-error").textContent = error && error.status !== 401 ? error.message : error ? "The token is not valid, or has expired." : "";
  $("sign-in").onsubmit = (e) => {
    e.preventDefault();
    setToken($("token").value.trim());
    start().catch(signIn);
  };
}

// Over what is there: figures that were seen may still be saved.
function signInAgain(why) {
  $("sign-in").hidden = false;
  $("sign-in-error").textContent = why;
  $("sign-in").onsubmit = (e) => {
    e.preventDefault();
    setToken($("token").value.trim());
    location.reload();
  };
}

tabs();
theme();
if (takeToken()) start().catch(signIn);
else signIn();
