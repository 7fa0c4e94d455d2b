// Times as this place writes them, instead of UTC.
import { keyOf } from "./morph.js";

const DAY = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric" });
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });

export function showTimes(root) {
  const today = DAY.format(new Date());
  for (const element of root.querySelectorAll("time[datetime]")) {
    const key = keyOf(element);
    if (element.dataset.own === key) continue;
    const at = new Date(key);
    const day = DAY.format(at);
    element.textContent = day === today ? CLOCK.format(at) : `${day}, ${CLOCK.format(at)}`;
    element.title = at.toString();
    element.dataset.own = key;
  }
}
