import java.util.HashSet;
import java.util.List;
import java.util.UUID;
import java.util.regex.Pattern;

import org.openapitools.client.ApiClient;
import org.openapitools.client.ApiException;
import org.openapitools.client.JSON;
import org.openapitools.client.api.OrdersApi;
import org.openapitools.client.api.ProductsApi;
import org.openapitools.client.model.NewOrder;
import org.openapitools.client.model.NewOrderOfOneProduct;
import org.openapitools.client.model.NewProduct;
import org.openapitools.client.model.Problem;

/** Uses the client that openapi-generator generated: a product, an order, a repeated request, pages, a conflict. */
public class Shop {
    static void check(boolean good, Object what) {
        if (!good) throw new AssertionError(what);
    }

    static NewOrder order(long product, long quantity) {
        return new NewOrder(new NewOrderOfOneProduct().productId(product).quantity(quantity));
    }

    public static void main(String[] arguments) throws Exception {
        ApiClient client = new ApiClient();
        client.updateBaseUri(arguments[0]);
        OrdersApi orders = new OrdersApi(client);

        NewProduct lamp = new NewProduct().name("Lamp").price(20.5).stock(5L);
        long product = new ProductsApi(client).createProduct(lamp, null).getId();

        String key = UUID.randomUUID().toString();
        long first = orders.createOrderWithHttpInfo(order(product, 1), key, null).getData().getId();
        var again = orders.createOrderWithHttpInfo(order(product, 1), key, null);
        check(again.getData().getId() == first, again.getData());
        check(List.of("true").equals(again.getHeaders().get("idempotency-replayed")), again.getHeaders());
        check(orders.getOrder(first).getItems().get(0).getProductId() == product, first);
        long second = orders.createOrder(order(product, 1), null, null).getId();

        try {
            orders.createOrder(order(product, 9), null, null);
            check(false, "an order for more than the stock was accepted");
        } catch (ApiException refused) {
            Problem problem = JSON.getDefault().getMapper().readValue(refused.getResponseBody(), Problem.class);
            check(refused.getCode() == 409 && problem.getLeft() == 3, problem);
        }

        var seen = new HashSet<Long>();
        String cursor = null;
        do {
            var page = orders.listOrdersWithHttpInfo(1L, cursor, product, null, null);
            page.getData().forEach(order -> check(seen.add(order.getId()), order));
            String link = String.join("", page.getHeaders().getOrDefault("link", List.of()));
            var next = Pattern.compile("[?&]cursor=([^&>]+)").matcher(link);
            cursor = next.find() ? next.group(1) : null;
        } while (cursor != null);
        check(seen.equals(new HashSet<>(List.of(first, second))), seen);
    }
}
