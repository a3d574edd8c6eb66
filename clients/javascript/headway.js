// A client of a Headway service for browsers and Node, without dependencies: each route a method (routes.js), and live streams
// that come back after a break. See README.md.

import { Routes } from "./routes.js";

const TRIES = 4; // of a call that the service asks to repeat later
const LONGEST_RETRY_MS = 60_000;
const SHORTEST_PAUSE_MS = 200; // before a stream connects again; doubled each time
const LONGEST_PAUSE_MS = 8_000;
const SILENT_MS = 45_000; // a stream sends something each 15 s, or its connection is dead
const MOST_WAITING = 1_000; // messages that nobody has taken; then the stream begins again behind the last one that was
const TOPICS = ["realtime", "monitoring", "alerts"];
const CREDENTIALS_ENDED = [4400, 4401]; // close codes

/**
 * The service refused, or what answered is not it. status: of HTTP (0 where a browser does not say); detail: why; faults: what is wrong where, as {pointer, message}.
 */
export class HeadwayError extends Error {
  constructor(status, detail, faults = []) {
    super(`${status}: ${detail}` + faults.map((fault) => `; ${fault.pointer || "/"}: ${fault.message}`).join(""));
    this.name = "HeadwayError";
    this.status = status;
    this.detail = detail;
    this.faults = faults;
  }
}

/**
 * A client. url: of the service; token: a bearer token, or an API key (hw_...).
 *
 *     const headway = new Headway("http://127.0.0.1:8000", token);
 *     await headway.engine.override("headway", "247379907", { order: "hold", lasts_s: 30 });
 *     for await (const message of headway.listen("alerts")) console.log(message.data);
 */
export class Headway extends Routes {
  #url;
  #headers;
  #fetch;
  #WebSocket;

  /** fetch, WebSocket: others than those of this place, such as the package `ws` for Node before 22. */
  constructor(url, token, { fetch = globalThis.fetch, WebSocket = globalThis.WebSocket } = {}) {
    super((...asked) => this.call(...asked));
    this.#url = url.replace(/\/+$/, "");
    this.#headers = token.startsWith("hw_") ? { "X-API-Key": token } : { Authorization: `Bearer ${token}` };
    this.#fetch = fetch.bind(globalThis);
    this.#WebSocket = WebSocket;
  }

  /**
   * Any route. query: names and values, of which undefined and null are left out; body: what becomes JSON; idempotencyKey: of a
   * POST that may be sent again without being done twice, for example crypto.randomUUID(); signal: of an AbortController.
   * A call that the service asks to repeat later (429, or 503 with Retry-After where a repetition does nothing twice) is
   * repeated, up to four times in all. Gives what the JSON of the answer holds, text as it is, anything else as an ArrayBuffer.
   * Throws HeadwayError where it is refused, TypeError where there is no answer.
   */
  async call(method, path, { query, body, idempotencyKey, signal } = {}) {
    const headers = { ...this.#headers };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (idempotencyKey) headers["Idempotency-Key"] = `"${idempotencyKey}"`;
    // a POST that is redirected becomes a GET: whoever gave an order must not take that for its answer
    const sent = { method, headers, signal, redirect: "manual", body: body === undefined ? undefined : JSON.stringify(body) };
    const isSafe = method !== "POST" || Boolean(idempotencyKey) || path.startsWith("/api/v1/ingest/");
    for (let tries = 1; ; tries += 1) {
      const answer = await this.#fetch(`${this.#url}${path}${words(query)}`, sent);
      if (answer.ok) return contentOf(answer);
      const refusal = await refusalOf(answer);
      const pause = retryMs(answer, isSafe);
      if (pause === null || tries === TRIES) throw refusal;
      await sleep(pause, signal);
    }
  }

  /**
   * Messages of a live stream (realtime, monitoring or alerts), for ever: after a break it connects again and goes on after the
   * last one that was taken. A message of the topic `gap` says what could not be had again. filters: street, kinds (a list),
   * format, compress. `break` out of the loop, or the signal, ends it. Throws HeadwayError where the service refuses.
   */
  async *listen(topic, filters = {}, { signal } = {}) {
    if (!TOPICS.includes(topic)) throw new TypeError(`no stream ${topic}. There are: ${TOPICS.join(", ")}.`);
    if (!this.#WebSocket) throw new TypeError("there is no WebSocket here: new Headway(url, token, { WebSocket })");
    const query = { ...filters, kinds: filters.kinds?.toString(), compress: filters.compress ? 1 : undefined };
    let last;
    let pause = SHORTEST_PAUSE_MS;
    for (;;) {
      signal?.throwIfAborted();
      const inbox = await this.#connected(topic, query, last, signal);
      if (inbox) {
        pause = SHORTEST_PAUSE_MS;
        try {
          for (let message; (message = await inbox.next()); ) {
            if (!message.id) continue; // a heartbeat
            last = message.id;
            yield message;
          }
        } finally {
          inbox.close();
        }
        signal?.throwIfAborted();
        if (CREDENTIALS_ENDED.includes(inbox.closed?.code)) throw new HeadwayError(401, inbox.closed.reason || "the stream is refused");
      }
      await sleep(pause, signal);
      pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
    }
  }

  /** An open stream; null where there is none now. A ticket stands in the address in place of the token, which logs would keep. */
  async #connected(topic, query, last, signal) {
    let ticket;
    try {
      ({ ticket } = await this.call("POST", "/api/v1/tickets", { signal }));
    } catch (error) {
      if (isFinal(error) || signal?.aborted) throw error;
      return null;
    }
    const address = `${this.#url.replace(/^http/, "ws")}/api/v1/live/${topic}${words({ ...query, last_id: last, ticket })}`;
    const inbox = new Inbox(new this.#WebSocket(address), signal);
    if (await inbox.opened) return inbox;
    // a WebSocket does not say why it was refused; the history of the stream takes the same filters
    try {
      await this.call("GET", `/api/v1/live/${topic}/history`, { query: { ...query, last_id: last, limit: 1 }, signal });
    } catch (error) {
      if (isFinal(error) || signal?.aborted) throw error;
    }
    return null;
  }
}

/** What a socket has received. opened: whether it opened; closed: the event of its end. */
class Inbox {
  #socket;
  #messages = [];
  #wake = () => {};
  #watchdog;

  constructor(socket, signal) {
    this.#socket = socket;
    this.closed = null;
    this.opened = new Promise((resolve) => {
      const end = (event) => {
        clearTimeout(this.#watchdog);
        signal?.removeEventListener("abort", abort);
        this.closed ??= event ?? { code: 1006 };
        resolve(false);
        this.#wake();
      };
      const abort = () => {
        this.close();
        end();
      };
      const hear = () => {
        clearTimeout(this.#watchdog);
        this.#watchdog = setTimeout(abort, SILENT_MS);
      };
      signal?.addEventListener("abort", abort);
      hear();
      socket.onopen = () => resolve(true);
      socket.onclose = end;
      socket.onerror = () => end(); // of a refused one Node 20 says no more
      socket.onmessage = (event) => {
        if (this.closed) return;
        hear();
        try {
          this.#messages.push(JSON.parse(event.data));
        } catch {
          abort(); // not to be read: it connects again, behind the last one that was
          return;
        }
        if (this.#messages.length > MOST_WAITING) {
          this.#messages.length = 0;
          abort();
        }
        this.#wake();
      };
    });
  }

  /** The next message; null where the socket has ended and all were taken. */
  async next() {
    while (!this.#messages.length && !this.closed) await new Promise((resolve) => (this.#wake = resolve));
    return this.#messages.shift() ?? null;
  }

  close() {
    clearTimeout(this.#watchdog);
    this.#socket.close();
  }
}

/** `?name=value&...`, or nothing. */
function words(query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
  const text = (value) => (value instanceof Date ? value.toISOString() : String(value));
  return given.length ? `?${new URLSearchParams(given.map(([name, value]) => [name, text(value)]))}` : "";
}

async function contentOf(answer) {
  const kind = (answer.headers.get("content-type") ?? "").split(";")[0].trim();
  if (kind === "text/html") throw new HeadwayError(answer.status, "a page was answered, by something else than Headway");
  if (kind.endsWith("json")) {
    const text = await answer.text();
    try {
      return JSON.parse(text);
    } catch (error) {
      throw new HeadwayError(answer.status, `the answer cannot be read (${error.message}); what was asked for may be done`);
    }
  }
  return kind.startsWith("text/") ? answer.text() : answer.arrayBuffer();
}

/** Proxies answer in their own ways: whatever it holds is an error of the service. */
async function refusalOf(answer) {
  if (answer.type === "opaqueredirect" || (answer.status >= 300 && answer.status < 400)) {
    const where = answer.headers.get("location") ?? "elsewhere"; // a browser does not say
    return new HeadwayError(answer.status, `the address leads to ${where}: give the service's`);
  }
  const problem = await answer.json().catch(() => null);
  const found = problem !== null && typeof problem === "object" ? problem : {};
  const faults = Array.isArray(found.faults) ? found.faults.filter((fault) => fault !== null && typeof fault === "object") : [];
  return new HeadwayError(answer.status, String(found.detail ?? answer.statusText), faults);
}

/** Milliseconds after which a call may be sent again; null where it may not be. A 429 was not looked at. */
function retryMs(answer, isSafe) {
  const after = answer.headers.get("retry-after") ?? "";
  if (!/^\d+$/.test(after) || !(answer.status === 429 || (answer.status === 503 && isSafe))) return null;
  return Math.min(1000 * Number(after), LONGEST_RETRY_MS);
}

/** Of a stream: there is no use in trying again. */
function isFinal(error) {
  return error instanceof HeadwayError && error.status >= 400 && error.status < 500 && ![408, 425, 429].includes(error.status);
}

function sleep(ms, signal) {
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, ms);
    if (signal?.aborted) abort();
    else signal?.addEventListener("abort", abort, { once: true });
  });
}
