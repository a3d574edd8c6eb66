// Alerts that are open, on streets, cameras, program and machine, and who looks after each; which
// are silenced, and the rules that open them.
import { ask, every } from "./api.js";
import { inWords } from "./words.js";

const ALERTS = "/api/v1/monitoring/alerts", OPEN = `${ALERTS}/open`, SILENCES = `${ALERTS}/silences`;
const EVERY_MS = 10_000, SOON_MS = 300, APART_MS = 3000, RULES_EVERY_MS = 60_000, HOUR_S = 3600;
const $ = (id) => document.getElementById(id);
let say, rights, streets = [], soon = null, asked = 0, rulesAsked = 0;

export function alerts(tell, applyRights, ofStreets) {
  [say, rights, streets] = [tell, applyRights, ofStreets];
  show();
  every(EVERY_MS, show);
}

// Something was told of an alert: asked for once where much is told.
export function changed() {
  soon ??= setTimeout(() => { soon = null; show(); }, Math.max(SOON_MS, asked + APART_MS - Date.now()));
}

export function choose() {
  rulesAsked = 0;
  show();
}

export async function show() {
  let open;
  asked = Date.now();
  try {
    open = await ask(OPEN);
  } catch (error) {
    if (error.status === 403) $("tab-alerts").hidden = true;  // these credentials are for some streets and cameras alone
    return;
  }
  $("tab-alerts").textContent = open.length ? `Alerts (${open.length})` : "Alerts";
  $("alert-none").hidden = open.length > 0;
  $("open-alerts").hidden = !open.length;
  rows("open-alert-rows", open, 6, [["Acknowledge", acknowledge], ["Silence", silence]], write);
  if (!$("alerting").hidden) await Promise.all([showSilences(), showRules()]);
  rights();
}

// Rows that stay where they are, so that a button is not exchanged under somebody's hand.
function rows(id, items, cells, orders, put) {
  const known = new Map([...$(id).rows].map((row) => [row.dataset.id, row]));
  for (const item of items) {
    put(known.get(item.id) ?? newRow(id, item, cells, orders), item);
    known.delete(item.id);
  }
  known.forEach((row) => row.remove());
}

function newRow(id, item, cells, orders) {
  const row = $(id).insertRow();
  row.dataset.id = item.id;
  for (let k = 0; k < cells; k++) row.insertCell();
  if (!orders.length) return row;
  const cell = row.insertCell();
  cell.className = "operator";
  for (const [text, order] of orders) cell.append(Object.assign(document.createElement("button"), { textContent: text, onclick: () => obey(order, item) }));
  return row;
}

// order: answers what was done, in words.
async function obey(order, item) {
  try {
    say(await order(item));
  } catch (error) {
    say(error.message, true);
  }
  show();
}

async function showSilences() {
  const found = await ask(SILENCES).catch(() => []);
  $("silence-none").hidden = found.length > 0;
  $("silences").hidden = !found.length;
  rows("silence-rows", found, 5, [["End", endSilence]], (row, of) => fill(row, [
    of.source || "any", of.rule || "any", new Date(of.until).toLocaleString(), of.by, of.reason,
  ]));
}

async function showRules() {
  if (Date.now() < rulesAsked + RULES_EVERY_MS) return;
  rulesAsked = Date.now();
  const [ofCameras, ...ofStreets] = await Promise.all([
    ask(`${ALERTS}/rules`).catch(() => []), ...streets.map((name) => ask(`/api/v1/engine/streets/${name}/alert-rules`).catch(() => [])),
  ]);
  const found = [
    ...ofStreets.flatMap((list, k) => list.map((rule) => ({ of: `street ${streets[k]}`, figure: rule.path, operator: rule.condition, severity: rule.level, ...rule }))),
    ...ofCameras.map((rule) => ({ of: rule.camera ? `camera ${rule.camera}` : "cameras, machine", figure: rule.metric, ...rule })),
  ];
  rows("rule-rows", found.map((rule) => ({ id: `${rule.of} ${rule.name}`, ...rule })), 5, [], (row, rule) => fill(row, [
    rule.name, rule.of, `${rule.figure} ${rule.operator} ${inWords(rule.threshold)}${rule.for_s ? ` for ${inWords(rule.for_s)} s` : ""}`,
    rule.severity, rule.fault || (rule.fixed ? "settings" : "API"),
  ]));
}

function fill(row, texts) {
  texts.forEach((text, k) => { if (row.cells[k].textContent !== text) row.cells[k].textContent = text; });
}

function write(row, alert) {
  const by = alert.acknowledged, quiet = alert.silenced_until;
  const { detail, reason, error, path } = alert.data;
  fill(row, [
    new Date(alert.since).toLocaleTimeString(), alert.source, path ? `${alert.rule} (${path})` : alert.rule, alert.severity,
    reason || error || detail || (alert.value === null ? "" : inWords(alert.value)),
    [by ? `by ${by.by}${by.note ? `: ${by.note}` : ""}` : "", quiet ? `silenced until ${new Date(quiet).toLocaleTimeString()}` : ""].filter(Boolean).join("; "),
  ]);
  row.className = by ? "" : alert.severity;
}

function note() {
  const text = $("alert-note").value.trim();
  $("alert-note").value = "";
  return text;
}

async function acknowledge({ id }) {
  const alert = await ask(`${OPEN}/${id}/acknowledge`, { note: note() });
  return `${alert.source}, ${alert.rule}: acknowledged`;
}

async function silence({ source, rule }) {
  const found = await ask(SILENCES, { source, rule, lasts_s: HOUR_S * Number($("silence-h").value), reason: note() });
  return `${found.source}, ${found.rule}: nobody is sent messages until ${new Date(found.until).toLocaleTimeString()}`;
}

async function endSilence({ id }) {
  await ask(`${SILENCES}/${id}`, undefined, "DELETE");
  return "the silence has ended";
}
