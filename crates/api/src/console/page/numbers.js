// Tiles, refusals and charts.

import { ask } from "./api.js";
import { $, el, keyed, number } from "./show.js";

function set(name, value, text = number(value)) {
  const element = document.querySelector(`[data-n="${name}"]`);
  if (element.textContent !== text) element.textContent = text;
}

const upTo = (value, most) => (value >= most ? `${number(most)}+` : number(value));

export function showStats(stats) {
  const { replica, orders, admission, queue, backlog } = stats;
  const ready = replica.ready ? "" : " It is not ready for requests.";
  const from = `${replica.name}, version ${replica.version}. Current values are those of the last ${stats.window_seconds} seconds.${ready}`;
  if ($("replica").textContent !== from) $("replica").textContent = from;
  set("accepted", orders?.accepted_per_second);
  set("refused", orders?.refused_per_second);
  set("lane", admission?.lane_wait_ms.p99);
  set("lock", admission?.lock_wait_ms.p99);
  set("batch", admission?.batch_size);
  set("waiting", admission?.waiting);
  set("queue", queue?.waiting);
  const age = queue && (queue.oldest_seconds ?? 0);
  const minutes = age >= 120;
  set("age", minutes ? age / 60 : age);
  document.querySelector('[data-unit="age"]').textContent = minutes ? "minutes" : "seconds";
  set("in-flight", queue?.in_flight);
  set("workers", queue?.workers);
  set("unfinished", backlog?.unfinished, backlog ? upTo(backlog.unfinished, backlog.counted_up_to) : undefined);
  set("dead", backlog?.dead_letters, backlog ? upTo(backlog.dead_letters, backlog.counted_up_to) : undefined);
  $("dead-tile").classList.toggle("alert", Boolean(backlog?.dead_letters));
  showNote(queue, backlog);
  showReasons(orders?.refused ?? {});
}

function showNote(queue, backlog) {
  const notes = [];
  if (!queue) notes.push("The queue is unknown: Redis does not answer, or no worker has run yet.");
  if (queue?.workers === 0) notes.push("No worker was seen: orders are accepted, and wait to be fulfilled.");
  if (!backlog) notes.push("Unfinished orders and dead letters are unknown: PostgreSQL does not answer.");
  const note = $("system-note");
  note.hidden = notes.length === 0;
  if (note.textContent !== notes.join(" ")) note.textContent = notes.join(" ");
}

function showReasons(refused) {
  const all = Object.entries(refused).sort((one, other) => other[1] - one[1]);
  const most = Math.max(1, ...all.map(([, count]) => count));
  const items = all.map(([reason, count]) => ({ reason, count, most }));
  keyed($("reasons"), items, (item) => item.reason, ({ reason, count }) => {
    const words = reason.replaceAll("_", " ");
    return el("li", {}, el("span", { textContent: words }),
      el("meter", { max: most, value: count, "aria-label": `${words}, compared with the most frequent reason` }),
      el("b", { textContent: number(count) }));
  });
  $("reasons-empty").hidden = all.length > 0;
}

// Loads the visible charts one after the other, so that a viewer uses one connection.
export async function showCharts() {
  for (const place of document.querySelectorAll("[data-chart]")) {
    const { top, bottom } = place.getBoundingClientRect();
    const inSight = bottom > -200 && top < window.innerHeight + 200;
    if (!inSight && place.firstChild) continue;
    const width = Math.max(240, Math.min(1600, place.clientWidth));
    const answer = await ask(`/charts/${place.dataset.chart}?width=${width}`);
    const svg = new DOMParser().parseFromString(await answer.text(), "image/svg+xml").documentElement;
    place.replaceChildren(document.importNode(svg, true));
  }
}
