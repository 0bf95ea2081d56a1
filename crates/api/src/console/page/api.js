// Requests to this server, with the key of this tab.

const KEY = "holdfast-key";
const PATIENCE_MS = 8000;

// An answer that is not a success.
export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `The server answered ${status}.`);
    this.status = status;
    const wrong = (problem.errors || []).map((error) => `${error.field} ${error.detail}`);
    if (wrong.length) this.message += ` (${wrong.join("; ")})`;
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

export async function ask(path, body) {
  const headers = {};
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  if (body) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, {
    method: body ? "POST" : "GET",
    body: body && JSON.stringify(body),
    headers,
    cache: "no-store",
    credentials: "omit",
    signal: AbortSignal.timeout(PATIENCE_MS),
  });
  if (answer.ok) return answer;
  throw new Refused(answer.status, await answer.json().catch(() => ({})));
}

// A list, and the URL of its next page.
export async function list(path) {
  const answer = await ask(path);
  const link = /<([^>]+)>; rel="next"/.exec(answer.headers.get("Link") || "");
  return { items: await answer.json(), next: link && link[1] };
}
