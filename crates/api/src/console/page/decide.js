// Replays or discards a dead letter, after a confirmation.

import { ask } from "./api.js";
import { $ } from "./show.js";

const BY = "holdfast-operator";

const QUESTIONS = {
  replay: {
    title: (id) => `Replay order ${id}?`,
    text: "The order is pending again, and a worker tries to fulfil it. The receiver gets the same message id as before.",
    go: "Replay",
    done: (id) => `Order ${id} is pending again.`,
  },
  discard: {
    title: (id) => `Discard order ${id}?`,
    text: "The order is cancelled for good, and its units are sold again. Make sure first that it is not fulfilled. This cannot be undone.",
    go: "Discard",
    done: (id) => `Order ${id} is discarded.`,
  },
};

export function decide(order, act, after) {
  const question = QUESTIONS[act];
  const dialog = $("decide");
  $("decide-title").textContent = question.title(order.id);
  $("decide-text").textContent = question.text;
  $("decide-go").textContent = question.go;
  $("decide-go").classList.toggle("danger", act === "discard");
  $("decide-error").textContent = "";
  $("decide-by").value = sessionStorage.getItem(BY) || "";
  $("decide-note").value = "";
  $("decide-cancel").onclick = () => dialog.close();
  $("decide-form").onsubmit = async (event) => {
    event.preventDefault();
    const by = $("decide-by").value.trim();
    const note = $("decide-note").value.trim() || null;
    sessionStorage.setItem(BY, by);
    $("decide-go").disabled = true;
    try {
      await ask(`/dead-letters/${order.id}/${act}`, { by, note });
      dialog.close();
      $("done").textContent = question.done(order.id);
      await after();
    } catch (error) {
      $("decide-error").textContent = error.message;
    } finally {
      $("decide-go").disabled = false;
    }
  };
  dialog.showModal();
}
