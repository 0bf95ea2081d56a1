// Requests and shows the numbers every two seconds while the page is visible.

import { ask, key } from "./api.js";
import { listenToLists, showCountdowns, showLists } from "./lists.js";
import { showCharts, showStats } from "./numbers.js";
import { $ } from "./show.js";

const PAUSE_MS = 2000;
const PAUSE_AFTER_FAILURE_MS = 5000;
const LISTS_EVERY = 3;

let paused = false;
let ahead = 0;
let round = 0;
let timer = null;

function say(text, className) {
  if ($("state-text").textContent !== text) $("state-text").textContent = text;
  $("state").className = `state ${className}`;
}

function failed(error) {
  if (error.status === 401 || error.status === 403) {
    askForKey(key.get() ? `The key is not accepted: ${error.message}` : "");
    say("A key is needed", "bad");
  } else if (error.status) {
    say(error.message, "bad");
  } else {
    say("The server does not answer", "bad");
  }
}

async function refresh() {
  clearTimeout(timer);
  let pause = PAUSE_MS;
  try {
    if (!paused && !document.hidden) {
      const stats = await (await ask("/stats")).json();
      ahead = Date.parse(stats.at) - Date.now();
      showStats(stats);
      if (round++ % LISTS_EVERY === 0) await showLists();
      await showCharts();
      say("Live", "live");
    }
  } catch (error) {
    failed(error);
    pause = PAUSE_AFTER_FAILURE_MS;
  }
  clearTimeout(timer);
  if (!$("key").open) timer = setTimeout(refresh, pause);
}

function askForKey(error) {
  $("key-error").textContent = error;
  $("forget").hidden = true;
  if (!$("key").open) $("key").showModal();
}

$("key-form").onsubmit = () => {
  key.set($("key-input").value.trim());
  $("key-input").value = "";
  $("forget").hidden = false;
  round = 0;
  refresh();
};
$("key").oncancel = (event) => event.preventDefault();
$("forget").hidden = !key.get();
$("forget").onclick = () => {
  key.forget();
  clearTimeout(timer);
  location.reload();
};
$("pause").onclick = () => {
  paused = !paused;
  $("pause").textContent = paused ? "Go on" : "Pause";
  if (paused) say("Paused", "");
  else refresh();
};
document.addEventListener("visibilitychange", () => document.hidden || refresh());
setInterval(() => showCountdowns(ahead), 1000);
listenToLists(failed);
refresh();
