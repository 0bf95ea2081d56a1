// Uses the types that openapi-typescript generated: a product, an order, a repeated request, pages, a conflict.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import createClient from "openapi-fetch";
import type { paths } from "./holdfast.js";

const { GET, POST } = createClient<paths>({ baseUrl: process.argv[2]! });

const product = await POST("/products", { body: { name: "Lamp", price: 20.5, stock: 5 } });
assert(product.data, JSON.stringify(product.error));
assert.equal(product.data.stock, 5);
const productId = product.data.id;

const header = { "Idempotency-Key": randomUUID() };
const body = { product_id: productId, quantity: 1 };
const first = await POST("/orders", { params: { header }, body });
const again = await POST("/orders", { params: { header }, body });
assert(first.data && again.data);
assert.equal(first.data.id, again.data.id);
assert.equal(again.response.headers.get("idempotency-replayed"), "true");

const order = await GET("/orders/{id}", { params: { path: { id: first.data.id } } });
assert.equal(order.data?.items[0]?.product_id, productId);
assert.equal(order.data.history[0]?.status, "pending");

const items = [{ product_id: productId, quantity: 1 }, { product_id: 1, quantity: 1 }];
const several = await POST("/orders", { body: { items } });
assert.equal(several.data?.items.length, 2);

const refused = await POST("/orders", { body: { product_id: productId, quantity: 9 } });
assert.equal(refused.error?.type, "/problems/not-enough-stock");
assert.equal(refused.error.left, 3);

const seen = new Set<number>();
let cursor: string | undefined;
do {
  const page = await GET("/orders", { params: { query: cursor ? { limit: 3, cursor } : { limit: 3 } } });
  assert(page.data);
  for (const { id } of page.data) {
    assert(!seen.has(id));
    seen.add(id);
  }
  cursor = page.response.headers.get("link")?.match(/[?&]cursor=([^&>]+)/)?.[1];
} while (cursor);
assert(seen.has(first.data.id) && seen.size >= 8);
