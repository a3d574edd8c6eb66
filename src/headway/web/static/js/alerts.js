// Alerts that are open, on streets, cameras, program and machine, and who looks after each.
import { ask } from "./api.js";
import { inWords } from "./words.js";

const OPEN = "/api/v1/monitoring/alerts/open", EVERY_MS = 5000, SOON_MS = 300;
const $ = (id) => document.getElementById(id);
let say, rights, soon = null;

export function alerts(tell, applyRights) {
  [say, rights] = [tell, applyRights];
  show();
  setInterval(show, EVERY_MS);
}

// Something was told of an alert: asked for once where much is told.
export function changed() {
  soon ??= setTimeout(() => { soon = null; show(); }, SOON_MS);
}

async function show() {
  let open;
  try {
    open = await ask(OPEN);
  } catch (error) {
    if (error.status === 403) $("tab-alerts").hidden = true;  // these credentials are for some streets and cameras alone
    return;
  }
  $("tab-alerts").textContent = open.length ? `Alerts (${open.length})` : "Alerts";
  $("alert-none").hidden = open.length > 0;
  $("open-alerts").hidden = !open.length;
  const rows = new Map([...$("open-alert-rows").rows].map((row) => [row.dataset.id, row]));
  for (const alert of open) {
    write(rows.get(alert.id) ?? newRow(alert.id), alert);
    rows.delete(alert.id);
  }
  rows.forEach((row) => row.remove());
  rights();
}

function newRow(id) {
  const row = $("open-alert-rows").insertRow();
  row.dataset.id = id;
  for (let k = 0; k < 6; k++) row.insertCell();
  const cell = row.insertCell(), button = document.createElement("button");
  cell.className = "operator";
  button.textContent = "Acknowledge";
  button.onclick = () => acknowledge(id);
  cell.append(button);
  return row;
}

function write(row, alert) {
  const by = alert.acknowledged, quiet = alert.silenced_until;
  const { detail, reason, error, path } = alert.data;
  [
    new Date(alert.since).toLocaleTimeString(), alert.source, path ? `${alert.rule} (${path})` : alert.rule, alert.severity,
    reason || error || detail || (alert.value === null ? "" : inWords(alert.value)),
    [by ? `by ${by.by}${by.note ? `: ${by.note}` : ""}` : "", quiet ? `silenced until ${new Date(quiet).toLocaleTimeString()}` : ""].filter(Boolean).join("; "),
  ].forEach((text, k) => { row.cells[k].textContent = text; });
  row.className = by ? "" : alert.severity;
}

async function acknowledge(id) {
  try {
    const alert = await ask(`${OPEN}/${id}/acknowledge`, { note: $("alert-note").value.trim() });
    $("alert-note").value = "";
    say(`${alert.source}, ${alert.rule}: acknowledged`);
  } catch (error) {
    say(error.message, true);
  }
  show();
}
