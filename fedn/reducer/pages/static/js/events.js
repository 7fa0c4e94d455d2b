// The log of events, as they happen: from the reducer's own stream, through the same filters as the page's.
import { holdStream } from "./stream.js";

const MOST_ROWS = 500;

export function followEvents(refresh) {
  const list = document.querySelector("[data-events-after]");
  const pattern = document.getElementById("event-row");
  const wanted = new URLSearchParams(location.search);
  let last = Number(list.dataset.eventsAfter);

  function take(message) {
    const event = JSON.parse(message.data);
    last = event.number;
    if (!fits(event, wanted)) return;
    document.getElementById("no-events")?.remove();
    const row = pattern.content.cloneNode(true).firstElementChild;
    row.querySelector("time").setAttribute("datetime", new Date(event.time * 1000).toISOString());
    row.querySelector("[data-kind]").textContent = event.kind.replaceAll("_", " ");
    row.querySelector("[data-mark]").replaceWith(markOf(event.kind));
    row.querySelector("[data-details]").append(...details(event.fields));
    list.prepend(row);
    while (list.rows.length > MOST_ROWS) list.rows[list.rows.length - 1].remove();
    refresh(list.rows[0]);
  }

  const kinds = JSON.parse(list.dataset.kinds);
  holdStream(() => `/api/v1/events?after=${last}`, { "*": take }, kinds);
}

export function fits(event, wanted) {
  const kind = wanted.get("kind");
  if (kind && event.kind !== kind) return false;
  for (const name of ["session", "client"]) {
    const value = wanted.get(name);
    if (value && String(event.fields[name] ?? "") !== value) return false;
  }
  const text = (wanted.get("text") ?? "").trim().toLowerCase();
  return !text || `${event.kind} ${JSON.stringify(event.fields)}`.toLowerCase().includes(text);
}

function markOf(kind) {
  const known = document.querySelector(`template[data-mark-of="${CSS.escape(kind)}"]`) ?? document.querySelector('template[data-mark-of=""]');
  return known.content.cloneNode(true);
}

// Made of text nodes alone: what a client calls itself stays text.
function details(fields) {
  const parts = [];
  for (const [name, value] of Object.entries(fields)) {
    if (value === "" || value === null || (name === "attempt" && !value)) continue;
    const label = document.createElement("span");
    label.className = "quiet";
    label.textContent = name.replaceAll("_", " ");
    parts.push(label, ` ${shown(name, value)}  `);
  }
  return parts;
}

function shown(name, value) {
  if (name === "session") return `…${String(value).slice(-6)}`;
  if (name === "round" || name === "attempt") return String(value + 1);
  if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(4)));
  if (name.endsWith("_id")) return String(value).split(":").pop().slice(0, 12);
  if (value && typeof value === "object") {
    return Object.entries(value).map(([key, inner]) => `${key} ${shown(key, inner)}`).join("  ");
  }
  return String(value);
}
