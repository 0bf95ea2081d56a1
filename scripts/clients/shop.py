"""Uses the client that openapi-python-client has made: a product, an order, a repeat, pages, a conflict."""
import re
import sys
import uuid

from holdfast_client import Client
from holdfast_client.api.orders import create_order, get_order, list_orders
from holdfast_client.api.products import create_product
from holdfast_client.models import (
    NewItem,
    NewOrderOfItems,
    NewOrderOfOneProduct,
    NewProduct,
    OrderWithHistory,
    Problem,
    Product,
)

client = Client(base_url=sys.argv[1])

product = create_product.sync(client=client, body=NewProduct(name="Lamp", price=20.5, stock=5))
assert isinstance(product, Product) and product.stock == 5, product

key = str(uuid.uuid4())
new = NewOrderOfOneProduct(product_id=product.id, quantity=1)
first = create_order.sync_detailed(client=client, body=new, idempotency_key=key)
again = create_order.sync_detailed(client=client, body=new, idempotency_key=key)
assert (first.status_code, again.status_code) == (201, 201)
assert first.parsed.id == again.parsed.id and again.headers["idempotency-replayed"] == "true"

order = get_order.sync(first.parsed.id, client=client)
assert isinstance(order, OrderWithHistory) and not order.additional_properties, order
assert order.items[0].product_id == product.id and order.created_at.tzinfo

lines = [NewItem(product_id=product.id, quantity=1), NewItem(product_id=1, quantity=1)]
several = create_order.sync(client=client, body=NewOrderOfItems(items=lines))
assert len(several.items) == 2

refused = create_order.sync(client=client, body=NewOrderOfOneProduct(product_id=product.id, quantity=9))
assert isinstance(refused, Problem) and refused.status == 409 and refused.left == 3, refused
assert refused.type_ == "/problems/not-enough-stock"

seen, cursor = set(), None
while True:
    page = list_orders.sync_detailed(client=client, limit=3, **({"cursor": cursor} if cursor else {}))
    assert page.status_code == 200 and seen.isdisjoint(order.id for order in page.parsed)
    seen.update(order.id for order in page.parsed)
    link = re.search(r"[?&]cursor=([^&>]+)", page.headers.get("link", ""))
    if not link:
        break
    cursor = link.group(1)
assert {first.parsed.id, several.id} <= seen and len(seen) >= 8, seen
