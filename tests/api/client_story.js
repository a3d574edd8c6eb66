// What the tests have the JavaScript client do, in Node and in a browser; see test_client_javascript.py.

import { Headway, HeadwayError } from "../../clients/javascript/headway.js";

const record = (simulation, second) => ({
  simulation_id: simulation,
  timestamp: `2025-09-10T00:00:0${second}Z`,
  intersection_id: "INT_1",
  signals: [
    {
      direction: "north",
      vehicle_counts: { car: 7 },
      emergency_vehicle_present: false,
      signal_status: "GREEN",
      signal_timer: 18,
      vehicles_crossed: 3,
      avg_wait_time: 12.5,
      green_time_allocated: 20,
    },
  ],
  metrics: {
    total_vehicles_passed: 3,
    avg_wait_time_all_sides: 20.5,
    throughput: 0.5,
    avg_speed: 28.5,
    fuel_saved: 0.5,
    co2_saved: 1.5,
    emergency_overrides: 0,
  },
});

async function refusal(act) {
  try {
    await act();
  } catch (error) {
    return error instanceof HeadwayError ? { status: error.status, detail: error.detail, faults: error.faults } : String(error);
  }
  return "not refused";
}

// A service that gives these answers one after the other.
function answering(...answers) {
  const asked = [];
  const fetch = async (url, sent) => {
    asked.push([sent.method, url, sent.headers["Idempotency-Key"] ?? ""]);
    const [status, headers = {}, body = { good: 1 }] = answers.shift();
    return new Response(JSON.stringify(body), { status, headers: { "content-type": "application/json", ...headers } });
  };
  return { asked, headway: new Headway("http://x/", "hw_1_2", { fetch }) };
}

export async function calls({ url, token }) {
  const headway = new Headway(url, token);
  const [street] = await headway.engine.state();
  const junction = street.junctions[0].id;
  const stored = await headway.ingestion.batch([record("JS", 1), record("JS", 2)]);
  const at = ["JS", "INT_1", "2025-09-10T00:00:01Z"];
  return {
    street: street.street,
    stored: stored.stored,
    records: (await headway.records.records({ simulation_id: "JS", limit: 1, cursor: undefined })).total,
    one: (await headway.records.record(...at)).metrics.avg_speed,
    until: (await headway.records.records({ end: new Date("2025-09-10T00:00:01.500Z") })).total,
    csv: (await headway.records.exportRecords({ simulation_id: "JS" })).split("\r\n")[0],
    metrics: (await headway.system.prometheus()).includes("headway_up_seconds"),
    order: (await headway.engine.override("headway", junction, { order: "hold", lasts_s: 30 }, { idempotencyKey: crypto.randomUUID() })).state,
    faulty: await refusal(() => headway.ingestion.batch([{ simulation_id: "x" }])),
    missing: await refusal(() => headway.engine.override("headway", "no/where", { order: "hold" })),
    nobody: await refusal(() => new Headway(url, "nonsense").engine.state()),
  };
}

export async function repetitions() {
  const later = { "Retry-After": "0" };
  const patient = answering([429, later], [503, later], [200]);
  const found = { answer: await patient.headway.records.simulations({ limit: 5 }), asked: patient.asked };
  const endless = answering(...Array.from({ length: 9 }, () => [429, later, { detail: "later" }]));
  found.endless = [await refusal(() => endless.headway.records.simulations()), endless.asked.length];
  const once = answering([503, later, { detail: "now?" }], [200]);
  found.once = [await refusal(() => once.headway.cameras.stop("c")), once.asked.length];
  const keyed = answering([503, later], [200]);
  found.keyed = [await keyed.headway.cameras.stop("c/d", { idempotencyKey: "k" }), keyed.asked];
  const unsaid = answering([503, {}, null], [200]);
  found.unsaid = [(await refusal(() => unsaid.headway.records.simulations())).status, unsaid.asked.length];
  return found;
}

// What answers is not the service: a proxy, or a server of another address.
export async function strangers({ elsewhere }) {
  const found = { elsewhere: await refusal(() => new Headway(elsewhere, "t").cameras.stop("c")) };
  const page = async () => new Response("<html>", { headers: { "content-type": "text/html; charset=utf-8" } });
  found.page = await refusal(() => new Headway("http://x", "t", { fetch: page }).cameras.stop("c"));
  const cut = async () => new Response('{"a":', { headers: { "content-type": "application/json" } });
  found.cut = await refusal(() => new Headway("http://x", "t", { fetch: cut }).cameras.stop("c"));
  class Garbled {
    static opened = 0;
    constructor() {
      Garbled.opened += 1;
      const text = Garbled.opened === 1 ? '{"id":' : '{"id":"7","topic":"alerts","street":"a","data":{}}';
      setTimeout(() => this.onopen(), 1);
      setTimeout(() => this.onmessage({ data: text }), 2);
    }
    close() {}
  }
  const ticket = async () => new Response('{"ticket":"x"}', { headers: { "content-type": "application/json" } });
  for await (const message of new Headway("http://x", "t", { fetch: ticket, WebSocket: Garbled }).listen("alerts")) {
    found.heard = [message.id, Garbled.opened];
    break;
  }
  return found;
}

// Until the message whose `n` is `last`.
export async function stream({ url, token, short, last }, WebSocket = globalThis.WebSocket) {
  const headway = new Headway(url, token, { WebSocket });
  const heard = [];
  for await (const message of headway.listen("alerts", { street: "js" })) {
    heard.push(message.topic === "gap" ? "gap" : message.data.n);
    if (message.data.n === last) break;
  }
  const refused = [];
  for (const [who, topic, filters] of [
    ["nonsense", "alerts", {}],
    [token, "alerts", { format: "rhyme" }],
    [token, "rumours", {}],
  ]) {
    const events = new Headway(url, who, { WebSocket }).listen(topic, filters);
    const found = await refusal(() => events.next());
    refused.push(found.status ?? found);
  }
  const controller = new AbortController();
  const silent = headway.listen("alerts", { street: "nobody" }, { signal: controller.signal });
  setTimeout(() => controller.abort(), 300);
  const aborted = await silent.next().catch((error) => error.name);
  const ended = await refusal(async () => {
    for await (const message of new Headway(url, short, { WebSocket }).listen("alerts", { street: "nobody" })) console.log(message);
  });
  return { heard, refused, aborted, ended: ended.status };
}
