// Asking the service, and listening to it.
const KEY = "headway-token";
const SILENT_MS = 45_000;  // a live stream sends something each 15 s, or its connection is dead, though nobody has said so
const ANSWERED_WITHIN_MS = 45_000;
let restUntil = 0;  // since the limit of requests a minute was reached

export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(KEY, given);
    history.replaceState(null, "", location.pathname + location.search);
  }
  return sessionStorage.getItem(KEY);
}

export function setToken(token) {
  sessionStorage.setItem(KEY, token);
}

export function role() {
  try {
    return JSON.parse(atob(sessionStorage.getItem(KEY).split(".")[1].replaceAll("-", "+").replaceAll("_", "/"))).role;
  } catch {
    return "";
  }
}

// The answer as it comes; a problem becomes an error with its detail.
export async function fetchAs(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: { ...options.headers, Authorization: `Bearer ${sessionStorage.getItem(KEY)}` } });
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({ detail: answer.statusText }));
    if (answer.status === 429) restUntil = Date.now() + 1000 * Number(answer.headers.get("Retry-After") ?? 60);
    throw Object.assign(new Error(problem.detail), { status: answer.status });
  }
  return answer;
}

export async function ask(path, body, method = body === undefined ? "GET" : "POST") {
  const sent = body === undefined ? {} : { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  try {
    return await (await fetchAs(path, { method, signal: AbortSignal.timeout(ANSWERED_WITHIN_MS), ...sent })).json();
  } catch (error) {
    if (error.name === "TimeoutError") throw new Error("the service does not answer");
    throw error.name === "TypeError" ? new Error("the service cannot be reached") : error;
  }
}

// A promise that fails where the other one takes as long as a stream that is dead.
export function unlessSilent(promise) {
  let timer;
  const silence = new Promise((_, fail) => { timer = setTimeout(() => fail(new Error("nothing comes any more: connecting again")), SILENT_MS); });
  return Promise.race([promise, silence]).finally(() => clearTimeout(timer));
}

// Does some work again and again, each time a while after it has ended: what nobody looks at, or what is asked for anew before it
// is answered, would take the requests a minute, and the browser's few connections, from the user's orders.
export function every(ms, work) {
  setTimeout(async () => {
    if (!document.hidden && Date.now() >= restUntil) await work().catch(() => {});
    every(ms, work);
  }, ms);
}

// Calls `hear` with each message; connects again after a break, and goes on after the last message that came. filter: `street`, `kinds`.
// Calls `tell` with whether it is connected, why not, and whether that is for good, since the credentials have ended.
export function listen(topic, hear, tell, filter = {}) {
  let last = "0", wait = 500;
  const again = () => setTimeout(connect, Math.max(wait = Math.min(wait * 2, 8000), restUntil - Date.now()));
  const connect = async () => {
    let ticket;
    try {
      ({ ticket } = await ask("/api/v1/tickets", undefined, "POST"));
    } catch (error) {
      tell?.(false, error.message, error.status === 401);
      if (error.status !== 401) again();
      return;
    }
    const at = new URL(`/api/v1/live/${topic}`, location.href);
    at.protocol = at.protocol.replace("http", "ws");
    at.search = new URLSearchParams({ ticket, last_id: topic === "realtime" ? "0" : last, ...filter });
    const socket = new WebSocket(at);
    let silence;
    const ended = (why, isOver = false) => {
      clearTimeout(silence);
      socket.onopen = socket.onmessage = socket.onclose = null;
      tell?.(false, why, isOver);
      if (!isOver) again();
    };
    const wakes = () => {
      clearTimeout(silence);
      silence = setTimeout(() => { ended("nothing comes any more"); socket.close(); }, SILENT_MS);
    };
    wakes();
    socket.onopen = () => { wait = 500; tell?.(true); };
    socket.onmessage = (event) => {
      wakes();
      const message = JSON.parse(event.data);
      if (message.id) last = message.id;
      if (message.data && message.topic !== "gap") hear(message.street, message.data);
    };
    socket.onclose = (event) => ended(event.reason, event.code === 4401);
  };
  connect();
}
