// Sales, dead letters, products and recent orders.

import { ask, list } from "./api.js";
import { decide } from "./decide.js";
import { $, chip, el, keyed, number, time, timeElement } from "./show.js";

const SALES_WITH_REPORT = 3;
const SALES_OVER = 3;
const names = new Map();
let stockPage = "/stock?limit=12";
let stockNext = null;

export async function showLists() {
  await showStock();
  await showSales();
  await showDead();
  await showOrders();
}

const product = (id) => names.get(id) || `product ${id}`;

async function showStock() {
  const { items, next } = await list(stockPage);
  items.forEach(({ id, name }) => names.set(id, name));
  stockNext = next;
  $("stock-next").disabled = !next;
  $("stock-first").disabled = !stockPage.includes("cursor=");
  keyed($("stock"), items, (item) => item.id, ({ id, name, stock, held }) =>
    el("tr", {},
      el("td", { className: "name" }, name, " ", el("span", { className: "soft", textContent: `#${id}` })),
      el("td", { className: stock === 0 ? "n out" : "n", textContent: stock === 0 ? "sold out" : number(stock) }),
      el("td", { className: "n", textContent: number(held) })));
  $("stock-table").hidden = items.length === 0;
  $("stock-empty").hidden = items.length > 0;
}

async function showSales() {
  const all = await (await ask("/sales")).json();
  const over = all.filter((sale) => sale.state === "over").slice(0, SALES_OVER);
  const rest = all.filter((sale) => sale.state !== "over")
    .sort((one, other) => Date.parse(one.starts_at) - Date.parse(other.starts_at));
  const shown = [...rest, ...over];
  const reported = [...rest.filter((sale) => sale.state === "open"), ...over].slice(0, SALES_WITH_REPORT);
  for (const sale of reported) {
    const answer = await ask(`/sales/${encodeURIComponent(sale.name)}`);
    sale.report = (await answer.json()).report;
  }
  keyed($("sales"), shown, (sale) => sale.name, saleCard);
  $("sales-empty").hidden = shown.length > 0;
}

function saleCard(sale) {
  const { name, state, starts_at, ends_at, products, per_customer, report } = sale;
  const clock = el("span", { className: "count" });
  if (state === "over") clock.textContent = `over since ${time(ends_at)}`;
  else {
    clock.dataset.until = state === "upcoming" ? starts_at : ends_at;
    clock.dataset.words = state === "upcoming" ? "starts in" : "ends in";
  }
  const some = products.slice(0, 4).map(product).join(", ");
  const more = products.length > 4 ? ` and ${products.length - 4} more` : "";
  const limit = per_customer ? `, at most ${per_customer} for a customer` : "";
  const card = el("li", {}, el("h3", {}, name, chip(state)), clock,
    el("p", { className: "soft", textContent: `${some}${more}${limit}` }));
  if (report) {
    const units = report.sold + report.left;
    const refused = Object.values(report.refused).reduce((sum, count) => sum + count, 0);
    card.append(
      el("meter", { max: Math.max(1, units), value: Math.max(0, report.sold), "aria-label": `${report.sold} of ${units} units are sold` }),
      el("p", { textContent: `${number(report.sold)} sold, ${number(report.left)} left` }),
      el("p", { className: "soft", textContent: `${number(refused)} refused, at most ${number(report.peak_orders_per_second)} orders in a second` }));
  }
  return card;
}

// Called once a second; `ahead` is how far the server's clock is ahead of the browser's.
export function showCountdowns(ahead) {
  for (const clock of document.querySelectorAll("[data-until]")) {
    const left = Math.max(0, Date.parse(clock.dataset.until) - Date.now() - ahead);
    const seconds = Math.ceil(left / 1000);
    const two = (value) => String(Math.floor(value)).padStart(2, "0");
    const days = Math.floor(seconds / 86400);
    const text = `${days ? `${days} d ` : ""}${two((seconds % 86400) / 3600)}:${two((seconds % 3600) / 60)}:${two(seconds % 60)}`;
    clock.replaceChildren(el("small", { textContent: `${clock.dataset.words} ` }), text);
  }
}

async function showDead() {
  const { items } = await list("/dead-letters?limit=20");
  keyed($("dead"), items, (order) => order.id, (order) => {
    const button = (text, className, act) =>
      el("button", { type: "button", className, textContent: text, onclick: () => decide(order, act, showLists), "aria-label": `${text} order ${order.id}` });
    return el("tr", {},
      el("th", { scope: "row" }, `#${order.id}`),
      el("td", { className: "name" }, order.failure || "no reason was given", el("br"), el("span", { className: "soft", textContent: lines(order) })),
      el("td", {}, `${order.attempts} `, el("span", { className: "soft", textContent: order.attempts === 1 ? "attempt" : "attempts" })),
      el("td", {}, order.finished_at ? timeElement(order.finished_at) : "–"),
      el("td", { className: "do" }, el("div", { className: "actions" },
        button("Replay", "", "replay"), button("Discard", "danger", "discard"))));
  });
  $("dead-table").hidden = items.length === 0;
  $("dead-empty").hidden = items.length > 0;
}

const lines = (order) =>
  order.items.slice(0, 3).map((item) => `${item.quantity} × ${product(item.product_id)}`).join(", ") +
  (order.items.length > 3 ? ` and ${order.items.length - 3} more` : "");

async function showOrders() {
  // The list does not change while the user reads the details of an order.
  if ($("orders").querySelector("details[open]")) return;
  const status = $("status").value;
  const { items } = await list(`/orders?limit=12${status ? `&status=${status}` : ""}`);
  keyed($("orders"), items, (order) => order.id, (order) => {
    const history = el("ul", { className: "history" });
    const details = el("details", { ontoggle: () => details.open && showHistory(order.id, history) },
      el("summary", {},
        el("span", { className: "what" }, el("b", { textContent: `#${order.id}` }), ` ${lines(order)}`), chip(order.status),
        el("span", { className: "who", textContent: order.customer_ref || "no customer named" }),
        el("span", { className: "when" }, timeElement(order.created_at))),
      history);
    return el("li", {}, details);
  });
  $("orders-empty").hidden = items.length > 0;
  $("orders").hidden = items.length === 0;
  $("orders-empty").textContent = status ? `There is no order that is ${status}.` : "There is no order yet.";
}

async function showHistory(id, place) {
  try {
    const order = await (await ask(`/orders/${id}`)).json();
    place.replaceChildren(...order.history.map((step) =>
      el("li", {}, timeElement(step.at), chip(step.status),
        el("span", { textContent: [step.detail, step.by && `by ${step.by}`].filter(Boolean).join(", ") }))));
  } catch (error) {
    place.replaceChildren(el("li", { className: "error", textContent: error.message }));
  }
}

export function listenToLists(failed) {
  const again = (show) => show().catch(failed);
  const turn = (to) => { stockPage = to; again(showStock); };
  $("stock-next").onclick = () => stockNext && turn(stockNext);
  $("stock-first").onclick = () => turn("/stock?limit=12");
  $("status").onchange = () => { $("orders").replaceChildren(); again(showOrders); };
}
