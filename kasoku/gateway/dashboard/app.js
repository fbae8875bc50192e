"use strict";
// Whatever a function, a client or a device is called or says is put in as text, never as HTML.

const LOOK_MS = 1000, SAMPLES = 60, LOG_BYTES = 65536, EVENTS = 200;
const byId = (id) => document.getElementById(id);
const rates = new Map(), totals = new Map(), held = new Map(), spans = new Map();
let key = sessionStorage.getItem("kasoku-key"), selected = null, logPosition = null, lastEvent = 0, lastLook = 0;

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (key) headers.Authorization = `Bearer ${key}`;
  const response = await fetch(path, { ...options, headers, cache: "no-store" });
  if (response.status === 403) {
    byId("login").hidden = false;
    throw new Error((await response.json()).message);
  }
  byId("login").hidden = true;
  return response;
}

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function row(cells) {
  const made = element("tr");
  for (const cell of cells) {
    if (cell instanceof Node) { const td = element("td"); td.append(cell); made.append(td); }
    else if (typeof cell === "number") made.append(element("td", String(cell), "n"));
    else made.append(element("td", cell ?? "–", cell === null || cell === undefined ? "none" : ""));
  }
  return made;
}

function fill(id, rows, columns, empty) {
  if (rows.length === 0) {
    const made = element("tr"), cell = element("td", empty, "none");
    cell.colSpan = columns;
    made.append(cell);
    rows = [made];
  }
  // A focused button stays: the same name gets the focus again after the rows were replaced.
  const focused = document.activeElement?.dataset?.name;
  byId(id).replaceChildren(...rows);
  if (focused) byId(id).querySelector(`[data-name="${CSS.escape(focused)}"]`)?.focus();
}

function svg(label) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  made.setAttribute("viewBox", `0 0 ${SAMPLES} 10`);
  made.setAttribute("preserveAspectRatio", "none");
  made.setAttribute("role", "img");
  made.setAttribute("aria-label", label);
  return made;
}

function line(values, label) {
  const made = svg(label), path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  const most = Math.max(1, ...values), start = SAMPLES - values.length;
  path.setAttribute("d", values.map((v, i) => `${i ? "L" : "M"}${start + i} ${9.5 - (9 * v) / most}`).join(""));
  path.setAttribute("vector-effect", "non-scaling-stroke");
  made.append(path);
  return made;
}

function bars(values, label) {
  const made = svg(label), start = SAMPLES - values.length;
  values.forEach((value, i) => {
    if (!value) return;
    const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [name, number] of Object.entries({ x: start + i, y: 1, width: 1, height: 8 })) rect.setAttribute(name, number);
    made.append(rect);
  });
  return made;
}

function remember(map, name, value) {
  const values = map.get(name) ?? [];
  values.push(value);
  if (values.length > SAMPLES) values.shift();
  map.set(name, values);
  return values;
}

function functionRow(status, f, seconds) {
  const metrics = f.metrics ?? {}, outcomes = metrics.outcomes ?? {};
  const total = Object.values(outcomes).reduce((a, b) => a + b, 0);
  const rate = totals.has(f.name) && seconds > 0 ? Math.max(0, total - totals.get(f.name)) / seconds : 0;
  totals.set(f.name, total);
  const values = remember(rates, f.name, rate), failed = total - (outcomes.ok ?? 0);
  const name = element("button", f.name, "name");
  name.type = "button";
  name.dataset.name = f.name;
  name.addEventListener("click", () => select(f.name));
  return row([
    name, f.version.slice(0, 12), f.options.accelerator, status.instances.filter((i) => i.function === f.name).length,
    status.waiting[f.name] ?? 0, Math.round(rate * 10) / 10, total, failed,
    metrics.warm_ms?.p50, metrics.warm_ms?.p99, metrics.cold_ms?.p50, line(values, `${Math.round(rate)} calls a second`),
  ]);
}

function show(status) {
  const seconds = lastLook ? status.now - lastLook : 0;
  lastLook = status.now;
  const used = status.instances.reduce((sum, i) => sum + i.memory_mib, 0);
  const calls = Object.entries(status.calls).map(([state, n]) => `${n} ${state}`).join(", ") || "none";
  byId("summary").textContent =
    `${status.functions.length} functions, ${status.instances.length} instances, ${used} of ${status.memory_mib} MiB; asynchronous calls: ${calls}`;
  fill("function-rows", status.functions.map((f) => functionRow(status, f, seconds)), 12, "None yet: kasoku deploy FILE.py");
  fill("instance-rows", status.instances.map((i) =>
    row([i.id, i.function, i.state, i.accelerator, i.memory_mib, i.invocations, i.age_s])), 7, "None are running.");
  fill("device-rows", status.devices.map((d) =>
    row([`opencl:${d.id}`, d.name, d.held_by, d.waiting,
      bars(remember(held, d.id, d.held_by ? 1 : 0), d.held_by ? "leased now" : "free now")])), 5, status.device_error ?? "None.");
  showLeases(status.leases, status.devices);
}

// Who held each device in each of the last looks: equal neighbours become one bar with its holder's name.
function showLeases(leases, devices) {
  fill("lease-rows", [
    ...leases.holders.map((h) => row([h.device, h.function, h.instance, h.idle ? "held, idle" : "held", h.priority, h.held_s])),
    ...leases.waiters.map((w) => row([w.wants, w.function, w.instance, w.suspended ? "suspended" : "waits", w.priority, w.waits_s])),
  ], 6, "Nobody holds a device or waits for one.");
  const holders = new Map(leases.holders.map((h) => [h.device, h.function]));
  byId("lease-timeline").replaceChildren(...devices.map((d) => {
    const id = `opencl:${d.id}`, values = remember(spans, id, holders.get(id) ?? null), spanned = [];
    values.forEach((holder, i) => {
      const last = spanned[spanned.length - 1];
      if (last && last.holder === holder) last.end = i + 1;
      else spanned.push({ holder, start: i, end: i + 1 });
    });
    const told = spanned.filter((s) => s.holder).map((s) => `${s.holder} for ${s.end - s.start} s`).join(", ");
    const made = svg(`${id}: ${told || "free"}`), start = SAMPLES - values.length;
    for (const span of spanned.filter((s) => s.holder)) {
      const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
      title.textContent = span.holder;
      const place = { x: start + span.start + 0.1, y: 1, width: span.end - span.start - 0.2, height: 8 };
      for (const [name, number] of Object.entries(place)) rect.setAttribute(name, number);
      rect.append(title);
      made.append(rect);
    }
    const device = element("div", id, "span");
    device.append(made, element("small", told || "free"));
    return device;
  }));
}

async function follow() {
  if (!selected) return;
  const name = selected, at = logPosition ? `after=${logPosition}` : `bytes=${LOG_BYTES}`;
  const response = await ask(`/v1/functions/${encodeURIComponent(name)}/logs?${at}`);
  if (!response.ok || name !== selected) return;
  logPosition = response.headers.get("x-kasoku-position");
  const text = await response.text();
  if (!text) return;
  const log = byId("log"), below = log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
  log.textContent = (log.textContent + text).slice(-LOG_BYTES);
  if (below) log.scrollTop = log.scrollHeight;
}

async function listen() {
  const events = await (await ask(`/v1/events?after=${lastEvent}`)).json();
  for (const event of events) {
    lastEvent = event.number;
    const at = new Date(event.at * 1000).toLocaleTimeString();
    byId("event-rows").prepend(element("li", `${at}  ${event.kind}  ${event.function ?? ""}  ${event.text}`));
  }
  while (byId("event-rows").children.length > EVENTS) byId("event-rows").lastChild.remove();
}

function select(name) {
  selected = name;
  logPosition = null;
  byId("log").textContent = byId("answer").textContent = byId("took").textContent = "";
  byId("detail").hidden = false;
  byId("detail-name").textContent = name;
  byId("detail-name").focus();
  follow().catch(() => {});
}

byId("login").addEventListener("submit", (event) => {
  event.preventDefault();
  key = byId("key").value.trim();
  sessionStorage.setItem("kasoku-key", key);
  byId("key").value = "";
});

byId("try").addEventListener("submit", async (event) => {
  event.preventDefault();
  const start = performance.now();
  byId("took").textContent = "running…";
  try {
    const path = `/v1/functions/${encodeURIComponent(selected)}:invoke`;
    const response = await ask(path, { method: "POST", body: byId("event").value, headers: { "Content-Type": "application/json" } });
    const told = await response.json(), failed = !response.ok || told.error;
    byId("took").textContent = `${Math.round(performance.now() - start)} ms${told.cold ? ", cold" : ""}${failed ? ", failed" : ""}`;
    byId("answer").textContent = JSON.stringify(response.ok ? told.error ?? told.result : told, null, 2);
  } catch (error) {
    byId("took").textContent = String(error.message);
  }
});

async function look() {
  try {
    show(await (await ask("/v1/status")).json());
    await Promise.all([follow(), listen()]);
  } catch (error) {
    byId("summary").textContent = error.message;
  }
  setTimeout(look, document.hidden ? 5 * LOOK_MS : LOOK_MS);
}
look();
