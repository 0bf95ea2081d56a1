// Uses the client that oapi-codegen generated: a product, an order, a repeated request, pages, a conflict.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"regexp"
	"time"

	"shop/holdfast"
)

func check(good bool, format string, values ...any) {
	if !good {
		log.Fatalf(format, values...)
	}
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := holdfast.NewClientWithResponses(os.Args[1])
	check(err == nil, "client: %v", err)

	product, err := client.CreateProductWithResponse(ctx, nil, holdfast.NewProduct{Name: "Lamp", Price: 20.5, Stock: 5})
	check(err == nil && product.JSON201 != nil, "product: %v %v", err, product)
	id := product.JSON201.Id

	order := func(quantity int64, key *string) *holdfast.CreateOrderResponse {
		var body holdfast.NewOrder
		err := body.FromNewOrderOfOneProduct(holdfast.NewOrderOfOneProduct{ProductId: id, Quantity: quantity})
		check(err == nil, "body: %v", err)
		answer, err := client.CreateOrderWithResponse(ctx, &holdfast.CreateOrderParams{IdempotencyKey: key}, body)
		check(err == nil, "order: %v", err)
		return answer
	}
	key := fmt.Sprintf("go-%d", time.Now().UnixNano())
	first, again := order(1, &key), order(1, &key)
	check(first.JSON201 != nil && again.JSON201 != nil && first.JSON201.Id == again.JSON201.Id, "repeat: %s %s", first.Body, again.Body)
	check(again.HTTPResponse.Header.Get("Idempotency-Replayed") == "true", "repeat: %v", again.HTTPResponse.Header)

	read, err := client.GetOrderWithResponse(ctx, first.JSON201.Id)
	check(err == nil && read.JSON200 != nil && read.JSON200.Items[0].ProductId == id, "get: %v %v", err, read)

	second := order(1, nil)
	check(second.JSON201 != nil, "second: %s", second.Body)
	refused := order(9, nil).ApplicationproblemJSON409
	check(refused != nil && *refused.Left == 3 && refused.Type == "/problems/not-enough-stock", "refused: %v", refused)

	seen := map[int64]bool{}
	limit, cursor, next := int64(1), (*string)(nil), regexp.MustCompile(`[?&]cursor=([^&>]+)`)
	for {
		page, err := client.ListOrdersWithResponse(ctx, &holdfast.ListOrdersParams{ProductId: &id, Limit: &limit, Cursor: cursor})
		check(err == nil && page.JSON200 != nil, "page: %v", err)
		for _, order := range *page.JSON200 {
			check(!seen[order.Id], "twice: %d", order.Id)
			seen[order.Id] = true
		}
		link := next.FindStringSubmatch(page.HTTPResponse.Header.Get("Link"))
		if link == nil {
			break
		}
		cursor = &link[1]
	}
	check(len(seen) == 2 && seen[first.JSON201.Id] && seen[second.JSON201.Id], "pages: %v", seen)
}
