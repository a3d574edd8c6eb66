// Models: who decides on the streets, the versions that are registered, and the jobs that make them.
import { ask, every } from "./api.js";
import { inWords, label } from "./words.js";

const ML = "/api/v1/ml", EVERY_MS = 10_000;
const $ = (id) => document.getElementById(id);
let say, rights, street = "headway";

export function models(tell, applyRights) {
  [say, rights] = [tell, applyRights];
  $("deploy-mode").onchange = () => { $("deploy-where").hidden = $("deploy-mode").value === "all"; };
  $("deploy-mode").onchange();
  jobForm();
  every(EVERY_MS, show);
}

export function showStreetNames(streets) {
  for (const id of ["deploy-street", "job-street"]) {
    const chosen = $(id).value;
    $(id).replaceChildren(...streets.map((name) => new Option(name, name, false, name === chosen)));
  }
}

export async function show() {
  if ($("models").hidden) return;
  // credentials that are bounded to streets read neither all versions nor all jobs
  const [health, versions, jobs] = await Promise.all([
    ask(`${ML}/health`).catch(failed), ask(`${ML}/models`).catch(failed),
    ask(`${ML}/jobs`).catch((error) => (error.status === 403 ? ask(`${ML}/jobs?street=${street}`).catch(failed) : failed(error))),
  ]);
  if (health) showStreets(health);
  if (versions !== undefined) showVersions(versions);
  if (jobs !== undefined) {
    $("job-none").hidden = Boolean(jobs?.items.length);
    rows("job-rows", jobs?.items ?? [], 8, jobButtons, jobCells);
  }
  if (!$("job-scenarios").options.length) $("job-scenarios").replaceChildren(...(await ask("/api/v1/engine/scenarios").catch(() => [])).map((name) => new Option(name)));
  rights();
}

function showVersions(versions) {
  $("model-none").hidden = Boolean(versions?.items.length) && !versions.next;
  $("model-none").textContent = versions?.next ? `The newest ${versions.items.length} versions; GET ${ML}/models has all.` : versions ? "No model is registered yet: headway tune --register NAME, or headway train." : "These credentials are for some streets alone, and see no versions.";
  rows("model-rows", versions?.items ?? [], 7, versionButtons, versionCells(versions?.items ?? []));
}

// null: not for these credentials; undefined: not known now, as while the database is away, and what was shown stays.
function failed(error) {
  if (error.status === 403) return null;
  say(error.message, true);
  return undefined;
}

// Rows that stay where they are, so that a button is not exchanged under somebody's hand.
function rows(id, items, cells, buttons, write) {
  const known = new Map([...$(id).rows].map((row) => [row.dataset.id, row]));
  for (const item of items) {
    const key = String(item.id);
    let row = known.get(key);
    if (!row) {
      row = $(id).insertRow();
      row.dataset.id = key;
      for (let k = 0; k < cells; k++) row.insertCell();
      buttons(row, item);
    }
    write(row, item);
    known.delete(key);
    $(id).append(row);  // in their order
  }
  known.forEach((row) => row.remove());
}

// Figures, each with its interval: {change: -0.05, change_95: [-0.07, -0.03]} is "change -0.05 (95 %: -0.07 to -0.03)".
function measured(info) {
  const told = Object.entries(info).filter(([key, value]) => value !== null && !(key.endsWith("_95") && key.slice(0, -3) in info));
  return told.map(([key, value]) => {
    const within = info[`${key}_95`];
    return `${label(key)} ${inWords(value)}${within ? ` (95 %: ${within.map(inWords).join(" to ")})` : ""}`;
  }).join(", ") || "–";
}

function button(text, act) {
  return Object.assign(document.createElement("button"), { textContent: text, onclick: act });
}

function put(row, texts) {
  texts.forEach((text, k) => { if (row.cells[k].textContent !== text) row.cells[k].textContent = text; });
}

// --- who decides

function showStreets(health) {
  $("ml-state").textContent = `${health.jobs.running} running, ${health.jobs.waiting} waiting${health.status === "ok" ? "" : ": no worker takes them, or one is silent (headway worker)"}`;
  const found = health.streets.flatMap(({ street: name, controller, models: m }) => [
    { id: `${name} champion`, name, role: "champion", what: "deploy", model: m.champion?.model ?? `no model: ${controller}`, where: "all junctions", figures: m.before ? `before: ${m.before}` : m.resting ? `${m.resting} when the optimisation is on` : "", ends: Boolean(m.champion) },
    ...["canary", "shadow"].filter((role) => m[role]).map((role) => ({ id: `${name} ${role}`, name, role, what: role, model: m[role].model, where: m[role].junctions.join(", "), figures: figures(m[role]), ends: true })),
  ]);
  rows("decider-rows", found, 5, rollbackButton, (row, of) => {
    put(row, [of.name, of.role, of.model, of.where, of.figures]);
    row.dataset.model = of.model;
    row.cells[5].firstChild.disabled = !of.ends;
  });
}

// Of a canary or a shadow, what is beside what is said of it above.
function figures(of) {
  const { model: _m, name: _n, version: _v, kind: _k, sha256: _s, junctions: _j, bounds: _b, disagreement_by_junction: _d, ...told } = of;
  return measured(told);
}

function rollbackButton(row, of) {
  const cell = row.insertCell();
  cell.className = "operator";
  cell.append(button("Roll back", async () => {
    const model = row.dataset.model;  // who was shown: another one's roll-back may come first
    const found = await ask(`/api/v1/engine/streets/${of.name}`).catch(failed);
    const [any] = found?.junctions ?? [];  // it is for all
    if (any) order(`rollback/${encodeURIComponent(any.id)}?street=${of.name}`, { what: of.what, everywhere: true, model });
  }));
}

// --- versions

function versionCells(items) {
  const byId = new Map(items.map((item) => [item.id, item]));
  const name = (id) => (byId.has(id) ? `${byId.get(id).name}@${byId.get(id).version}` : `number ${id}`);
  const lineage = (of) => (of.parent === null ? [] : [name(of.parent), ...(byId.has(of.parent) ? lineage(byId.get(of.parent)) : [])]);
  return (row, of) => {
    put(row, [
      `${of.name}@${of.version}`, of.kind, measured(of.metrics), inWords(of.made_from), lineage(of).join(" ← ") || "–",
      `${of.created_by}, ${new Date(of.created_at).toLocaleString()}`, of.fault || "sound",
    ]);
    row.className = of.fault ? "error" : "";
  };
}

function versionButtons(row, of) {
  const cell = row.insertCell();
  cell.className = "engineer";
  cell.append(button("Deploy", () => {
    const mode = $("deploy-mode").value, where = mode === "all" ? [] : $("deploy-junctions").value.split(",").map((name) => name.trim()).filter(Boolean);
    street = $("deploy-street").value;
    order(`deploy/${of.id}?street=${street}`, { mode, junctions: where });
  }));
}

async function order(path, body) {
  try {
    const answer = await ask(`${ML}/${path}`, body);
    say(`${answer.detail} (${answer.state})`);
  } catch (error) {
    say(error.message, true);
  }
  show();
}

// --- jobs

const parts = (id) => $(id).value.split(",").map((part) => part.trim()).filter(Boolean);

// Each kind has fields of its own; those of the others are neither shown nor checked.
function jobForm() {
  const kind = $("job-kind");
  kind.onchange = () => {
    for (const field of $("job-form").querySelectorAll("[data-of]")) {
      field.hidden = field.querySelector("input").disabled = !field.dataset.of.split(" ").includes(kind.value);
    }
  };
  kind.onchange();
  $("job-form").onsubmit = async (event) => {
    event.preventDefault();
    street = $("job-street").value;
    event.submitter.disabled = true;
    try {
      const job = await ask(`${ML}/train?street=${street}`, { kind: kind.value, arguments: jobArguments(kind.value) });
      say(`job ${job.id}: ${job.state}`);
    } catch (error) {
      say(error.message, true);
    }
    event.submitter.disabled = false;
    show();
  };
}

function jobArguments(kind) {
  const scenario = $("job-scenario").value.trim();
  if (kind === "evaluate") return { scenario, controllers: parts("job-controllers"), seeds: parts("job-seeds").map(Number) };
  const name = $("job-name").value.trim();
  return kind === "train" ? { scenario, name, episodes: Number($("job-episodes").value) } : { scenario, name };
}

function jobCells(row, job) {
  const ended = job.error || (job.result ? measured(job.result) : "");
  put(row, [String(job.id), job.kind, job.street, job.arguments.name ?? inWords(job.arguments.controllers), job.cancel_by && job.state === "running" ? `cancelled by ${job.cancel_by}, ends soon` : job.state]);
  const bar = row.cells[5].firstChild ?? row.cells[5].appendChild(Object.assign(document.createElement("progress"), { max: 1, ariaLabel: `Progress of job ${job.id}` }));
  bar.value = job.progress;
  bar.title = `${(100 * job.progress).toFixed(0)} %`;
  [job.asked_by, ended || job.note].forEach((text, k) => { row.cells[6 + k].textContent = text; });
  row.cells[8].firstChild.disabled = !["waiting", "running"].includes(job.state) || job.cancel_by !== null;
}

function jobButtons(row, job) {
  const cell = row.insertCell();
  cell.className = "operator";
  cell.append(button("Cancel", async () => {
    try {
      const { state } = await ask(`${ML}/jobs/${job.id}`, undefined, "DELETE");
      say(`job ${job.id}: ${state === "running" ? "ends soon" : state}`);
    } catch (error) {
      say(error.message, true);
    }
    show();
  }));
}
